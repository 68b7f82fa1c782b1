package demo

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// call is one run of the program.
type call struct {
	args []string
	// stdin is what the person hands in; it is not shown.
	stdin secret.Value
	// known tells lines like those that an earlier command printed, which need not be read again.
	known func(line string) bool
	// fine are the exit codes besides 0 that belong to the story.
	fine []int
}

// running is a run of the program that was begun.
type running struct {
	*program
	call
	feed *feed
	out  *lines
}

// printed knows lines.
func printed(lines []string) func(string) bool {
	return func(line string) bool { return line != "" && slices.Contains(lines, line) }
}

// planned knows the plan that a command prints before it begins a rotation.
func planned() func(string) bool {
	begun := false
	return func(line string) bool {
		begun = begun || strings.HasPrefix(line, "rotation ")
		return !begun
	}
}

// check knows the lines of an intake's checks.
func check(line string) bool {
	return strings.HasPrefix(line, " ✓ ") || strings.HasPrefix(line, " · ") || strings.HasPrefix(line, " ! ")
}

// begin prints a command and starts it.
func (d *demo) begin(c call) (*running, error) {
	shown := "$ keywright"
	for _, a := range c.args {
		if strings.ContainsAny(a, " '\"") {
			a = "'" + a + "'"
		}
		shown += " " + a
	}
	cmd := exec.Command(d.Executable, c.args...) //nolint:noctx // end stops it, and waits
	cmd.Dir, cmd.Env = d.dir, d.environment()
	if !c.stdin.IsZero() {
		shown += "   # the value comes on stdin"
		var in []byte
		c.stdin.Reveal(func(b []byte) { in = append(append(in, b...), '\n') })
		cmd.Stdin = bytes.NewReader(in)
	}
	d.line("")
	d.line(shown)
	r := &running{call: c, feed: newFeed(d.screen, c.known)}
	r.out = &lines{each: r.feed.add}
	cmd.Stdout, cmd.Stderr = r.out, r.out
	var err error
	r.program, err = d.launch("keywright "+c.args[0], cmd)
	return r, err
}

// keywright runs the program to its end, and gives the lines that it printed.
func (d *demo) keywright(ctx context.Context, c call) ([]string, error) {
	r, err := d.begin(c)
	if err != nil {
		return nil, err
	}
	err = r.wait(ctx)
	lines, _ := r.feed.after(0)
	return lines, err
}

// inTurn runs the program several times.
func (d *demo) inTurn(ctx context.Context, calls ...call) error {
	for _, c := range calls {
		if _, err := d.keywright(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// wait waits for the end of the program. An exit code that does not belong to the story is an error.
func (r *running) wait(ctx context.Context) error {
	select {
	case <-r.done:
	case <-ctx.Done():
		return fault.Wrap(fault.Canceled, context.Cause(ctx), "wait for keywright "+r.args[0])
	}
	r.out.flush()
	code := r.cmd.ProcessState.ExitCode()
	if code != 0 && !slices.Contains(r.fine, code) {
		return fault.Newf(fault.Unknown, "run keywright %s: exit code %d", strings.Join(r.args, " "), code)
	}
	if code > 0 {
		r.feed.add(fmt.Sprintf("(exit code %d)", code))
	}
	return nil
}

// see waits until the program has printed a line with text in it.
func (r *running) see(ctx context.Context, text string) error {
	for n := 0; ; {
		lines, more := r.feed.after(n)
		if slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, text) }) {
			return nil
		}
		n += len(lines)
		select {
		case <-more:
		case <-r.done:
			return fault.Newf(fault.Unknown, "run keywright %s: it ended and did not say %q", strings.Join(r.args, " "), text)
		case <-ctx.Done():
			return fault.Wrap(fault.Canceled, context.Cause(ctx), "wait for keywright "+r.args[0])
		}
	}
}
