package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

func (c *console) initCommand() *cobra.Command {
	var a config.Answers
	var dir, output, adminKey string
	var yes bool
	cmd := &cobra.Command{
		Use: "init", Short: "write a commented keywright.yaml for this directory", GroupID: "setup", Args: cobra.NoArgs,
		Long: `Init looks at the directory for places that hold keys (.env files, Compose files, Kubernetes manifests, workflows), asks what it cannot
know, and writes a commented keywright.yaml that works. It writes that one file, never over an existing one, and no value into it.`,
		Example: "  keywright init\n  keywright init --organization zen-support --owner platform@zensupport.example --yes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := output
			if path == "" {
				path = filepath.Join(dir, "keywright.yaml")
			}
			if _, err := os.Lstat(path); err == nil {
				return fault.New(fault.Conflict, fmt.Sprintf("write %q: it exists", path), fault.Hint("edit it, or name another file with --output"))
			}
			if adminKey != "" {
				ref, err := secret.ParseRef(adminKey)
				if err != nil {
					return err
				}
				a.AdminKey = ref
			}
			if err := c.askInit(&a, yes); err != nil {
				return err
			}
			text, findings, err := config.Propose(dir, &a)
			if err != nil {
				return err
			}
			for _, f := range findings {
				c.printf("saw %s\n", audit.Clean(f.What))
				if f.Location != "" {
					c.printf("    location %s\n", f.Location)
				}
				if f.Hint != "" {
					c.printf("    %s\n", audit.Clean(f.Hint))
				}
			}
			if err := writeNew(path, text); err != nil {
				return err
			}
			c.printf("wrote %s\nnext: keywright config check, then: keywright key adopt %s\n", path, a.Key)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", ".", "the directory to look at")
	f.StringVarP(&output, "output", "o", "", "the file to write (default keywright.yaml in the directory)")
	f.StringVar(&a.Organization, "organization", "", "your organization's short name")
	f.StringVar(&a.Owner, "owner", "", "who answers for the key")
	f.StringVar((*string)(&a.Key), "key", "", "name of the key")
	f.StringVar(&a.Class, "class", "", "its class")
	f.StringVar(&a.Workspace, "workspace", "", "id of the workspace (wrkspc_…) that its values must belong to")
	f.StringVar(&adminKey, "admin-key", "", "where the Admin API key can be read: env:NAME, file:PATH or cmd:PROGRAM")
	f.StringVar(&a.ProviderURL, "provider-url", "", "address of the API, for a simulation or a proxy")
	f.StringVar(&a.Variable, "variable", "", "the variable to look for (default ANTHROPIC_API_KEY)")
	f.StringArrayVar(&a.EnvFiles, "env-file", nil, "a file to take up as a location; may be given several times")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask; take what the flags and the directory say")
	return cmd
}

// askInit asks for what the flags do not say.
func (c *console) askInit(a *config.Answers, yes bool) error {
	if yes || !c.onTerminal() {
		return nil
	}
	for _, q := range []struct {
		ask  string
		into *string
	}{{"Short name of your organization", &a.Organization}, {"Who answers for the key (an address)", &a.Owner}} {
		if *q.into != "" {
			continue
		}
		fmt.Fprintf(c.err, "%s: ", q.ask)
		line, err := readLine(c.in)
		if err != nil {
			return err
		}
		*q.into = line
	}
	return nil
}
