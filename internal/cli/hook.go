package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
)

// hookMark is the line by which a hook is known to be ours.
const hookMark = "# made by: keywright hook install"

// before is added to the name of a hook that was there first and is run before ours.
const before = ".before-keywright"

func (c *console) hookCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "hook", Short: "let git refuse commits and pushes that hold a key", GroupID: "keys", Args: cobra.NoArgs,
		Example: "  keywright hook install\n  keywright hook install --chain ~/src/support\n  keywright hook remove",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.hookInstall(), c.hookRemove())
	return cmd
}

func hookKinds() []string { return []string{"pre-commit", "pre-push", "pre-receive"} }

func (c *console) hookInstall() *cobra.Command {
	var kinds []string
	var chain, trust bool
	cmd := &cobra.Command{
		Use: "install [REPOSITORY]", Short: "put hooks into a repository", Args: cobra.MaximumNArgs(1),
		Long: `Install writes hooks that run keywright scan: pre-commit looks at the staged files, pre-push at the commits that the remote lacks, and pre-receive,
for the server's side, at what a push brings. Each refuses what holds a key, and what it could not search whole.

A hook that is there already is left alone, unless --chain keeps it beside the new one, which then runs it first. A repository whose hooks lie
elsewhere (core.hooksPath) is refused with the line to add there.`,
		Example: "  keywright hook install\n  keywright hook install --type pre-receive /srv/git/support.git",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := hooksDir(cmd, args)
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return fault.Wrap(fault.Unavailable, err, "find this program")
			}
			for _, kind := range kinds {
				if hookCall(kind, self, trust) == "" {
					return usageError{fault.New(fault.Invalid, fmt.Sprintf("--type: there is no %q", kind), fault.Hint("one of %s", strings.Join(hookKinds(), ", ")))}
				}
			}
			// All or none: look first.
			for _, kind := range kinds {
				if err := mayInstall(filepath.Join(dir, kind), hookCall(kind, self, trust), chain); err != nil {
					return err
				}
			}
			for _, kind := range kinds {
				path := filepath.Join(dir, kind)
				how, err := installHook(path, kind, self, trust)
				if err != nil {
					return err
				}
				c.printf("%s: %s\n", audit.Clean(path), how)
			}
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&kinds, "type", []string{"pre-commit", "pre-push"}, "which hooks: "+strings.Join(hookKinds(), ", "))
	cmd.Flags().BoolVar(&chain, "chain", false, "keep a hook that is there, and run it first")
	cmd.Flags().BoolVar(&trust, "trust-repo-ignores", false, "let allow marks in the repository count")
	return cmd
}

func (c *console) hookRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove [REPOSITORY]", Short: "take keywright's hooks out, and put back those that were there before", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := hooksDir(cmd, args)
			if err != nil {
				return err
			}
			n := 0
			for _, kind := range hookKinds() {
				path := filepath.Join(dir, kind)
				if ours, err := isOurs(path); err != nil || !ours {
					continue
				}
				n++
				if _, err := os.Lstat(path + before); err == nil {
					if err := os.Rename(path+before, path); err != nil {
						return fault.Wrap(fault.Forbidden, err, "put hook back")
					}
					c.printf("%s: removed, and the one before it put back\n", audit.Clean(path))
					continue
				}
				if err := os.Remove(path); err != nil {
					return fault.Wrap(fault.Forbidden, err, "remove hook")
				}
				c.printf("%s: removed\n", audit.Clean(path))
			}
			if n == 0 {
				c.printf("%s: no hook of keywright's\n", audit.Clean(dir))
			}
			return nil
		},
	}
}

// hooksDir asks git where a repository keeps its hooks.
func hooksDir(cmd *cobra.Command, args []string) (string, error) {
	dir := "."
	if len(args) == 1 {
		dir = args[0]
	}
	git := func(args ...string) (string, error) {
		res, err := child.Run(cmd.Context(), child.Command{Argv: append([]string{"git", "-C", dir}, args...), Timeout: 20 * time.Second})
		return strings.TrimSuffix(string(res.Stdout), "\n"), err
	}
	own, err := git("rev-parse", "--path-format=absolute", "--git-common-dir")
	if err != nil {
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Canceled) {
			return "", err
		}
		return "", fault.New(fault.NotFound, fmt.Sprintf("find repository: git finds none at %q", dir), fault.Hint("name one: keywright hook install REPOSITORY"))
	}
	hooks, err := git("rev-parse", "--path-format=absolute", "--git-path", "hooks")
	if err != nil {
		return "", fault.In(err, "find hooks")
	}
	if filepath.Clean(hooks) != filepath.Join(own, "hooks") {
		return "", fault.New(fault.Conflict, fmt.Sprintf("install hook: the hooks lie elsewhere (core.hooksPath), in %q", hooks),
			fault.Hint("add this line to the pre-commit hook there: keywright scan --staged --follow-external || exit 1"))
	}
	return hooks, nil
}

// hookCall is the command line of a hook, for a shell; empty for an unknown kind.
func hookCall(kind, self string, trust bool) string {
	call := quoteShell(self) + " scan "
	switch kind {
	case "pre-commit":
		call += "--staged"
	case "pre-push":
		call += `--pre-push "$1"`
	case "pre-receive":
		call += "--pre-receive"
	default:
		return ""
	}
	call += " --follow-external"
	if trust {
		call += " --trust-repo-ignores"
	}
	return call
}

func quoteShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// isOurs reports whether the hook at path is keywright's. A missing one is not.
func isOurs(path string) (bool, error) {
	b, err := readBounded(path, 1<<20)
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			return false, nil
		}
		return false, err
	}
	return bytes.Contains(b, []byte(hookMark)), nil
}

// mayInstall refuses a place where a foreign hook lies, unless it may be kept beside ours.
func mayInstall(path, call string, chain bool) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "install hook")
	}
	ours := false
	if info.Mode().IsRegular() {
		if ours, err = isOurs(path); err != nil {
			return err
		}
	}
	if ours {
		return nil
	}
	if !chain {
		return fault.New(fault.Conflict, fmt.Sprintf("install hook: there is one at %q", path), fault.Hint("--chain keeps it and runs it first; or add to it: %s || exit 1", call))
	}
	if _, err := os.Lstat(path + before); err == nil {
		return fault.New(fault.Conflict, fmt.Sprintf("install hook: there is one kept at %q already", path+before), fault.Hint("look which of the two is wanted, and move the other away"))
	}
	return nil
}

// installHook writes a hook, and moves one that was there beside it.
func installHook(path, kind, self string, trust bool) (how string, err error) {
	how = "installed"
	switch ours, err := isOurs(path); {
	case err != nil:
		return "", err
	case ours:
		how = "brought up to date"
	default:
		if _, err := os.Lstat(path); err == nil {
			if err := os.Rename(path, path+before); err != nil {
				return "", fault.Wrap(fault.Forbidden, err, "keep hook")
			}
			how = "installed; the one before it runs first"
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as git makes it
		return "", fault.Wrap(fault.Forbidden, err, "install hook")
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".keywright-hook.*")
	if err != nil {
		return "", fault.Wrap(fault.Forbidden, err, "install hook")
	}
	_, err = file.WriteString(hookScript(path, kind, self, trust))
	err = errors.Join(err, file.Chmod(0o755), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
		return "", fault.Wrap(fault.Unavailable, err, "install hook")
	}
	return how, nil
}

// hookScript is the hook. One that was there before is run first, with the same input; a program that is gone refuses and says so.
func hookScript(path, kind, self string, trust bool) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n" + hookMark + "\n# It refuses what holds a key. \"keywright hook remove\" takes it out.\n")
	b.WriteString("input=\n")
	if kind != "pre-commit" {
		b.WriteString("input=$(cat; echo .)\ninput=${input%.}\n")
	}
	first := `"$(dirname "$0")/` + filepath.Base(path) + before + `"`
	b.WriteString("if [ -x " + first + " ]; then\n\tprintf %s \"$input\" | " + first + " \"$@\" || exit $?\nfi\n")
	b.WriteString("if [ ! -x " + quoteShell(self) + " ]; then\n\techo \"keywright is missing at \"" + quoteShell(self) + "\": install it, or remove this hook: $0\" >&2\n\texit 1\nfi\n")
	b.WriteString("printf %s \"$input\" | " + hookCall(kind, self, trust) + " >&2\n")
	return b.String()
}
