// Package command is the channel that runs a program for every notice, with the notice as one JSON object on standard input. It uses no
// shell, hands no notice over in an argument or in the environment, and never shows what the program wrote. app makes it from the
// configuration; notify calls it.
package command

import (
	"context"
	"path/filepath"
	"time"

	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/notify"
)

// Config says which program to run.
type Config struct {
	// Argv is the program and its arguments. A relative path is taken from Dir; other users must not be able to change the program.
	Argv []string
	// Dir is the working directory: that of the configuration file.
	Dir string
	// Pass names environment variables that the program sees besides PATH, HOME, LANG and TZ.
	Pass []string
	// Timeout bounds a run; zero means DefaultTimeout.
	Timeout time.Duration
}

// DefaultTimeout is how long the program may take.
const DefaultTimeout = 15 * time.Second

// Channel runs a program.
type Channel struct{ config Config }

var _ notify.Channel = (*Channel)(nil)

// New makes the channel. It starts nothing. Invalid when no program is named.
func New(c Config) (*Channel, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return nil, fault.New(fault.Invalid, "make channel: no program is named")
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	return &Channel{config: c}, nil
}

// Check reports, without running it, whether the program can be used. Kinds: NotFound, Forbidden, Invalid.
func (c *Channel) Check() error {
	_, err := child.Resolve(c.config.Argv, c.config.Dir)
	return err
}

// Name gives "command " and the program's name.
func (c *Channel) Name() string { return "command " + filepath.Base(c.config.Argv[0]) }

// Send runs the program. The id stands in the environment as KEYWRIGHT_DELIVERY. Exit code 0 means that the notice was taken; any other is
// Unknown and tried again. Kinds otherwise are those of child.Run.
func (c *Channel) Send(ctx context.Context, id string, n notify.Notice) error {
	body, err := n.Body()
	if err != nil {
		return err
	}
	_, err = child.Run(ctx, child.Command{
		Argv: c.config.Argv, Dir: c.config.Dir, Pass: c.config.Pass, Env: []string{"KEYWRIGHT_DELIVERY=" + id}, Stdin: append(body, '\n'), Timeout: c.config.Timeout,
	})
	return err
}
