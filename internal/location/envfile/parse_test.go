package envfile

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

type reading struct {
	format Format
	text   string
	value  string // of X; "?" for unclear, "" for not set
	put    string // the text after X=new, or "" when refused
}

func readings() []reading {
	return []reading{
		{Dotenv, "X=a\n", "a", "X=new\n"},
		{Dotenv, "X=a", "a", "X=new"},
		{Dotenv, "", "", "X=new\n"},
		{Dotenv, "A=1", "", "A=1\nX=new"},
		{Dotenv, "A=1\r\n", "", "A=1\r\nX=new\r\n"},
		{Dotenv, "X=a\r\nB=2\r\n", "a", "X=new\r\nB=2\r\n"},
		{Dotenv, "export A=1\n", "", "export A=1\nexport X=new\n"},
		{Dotenv, "X=\nB=2\n", "", "X=new\nB=2\n"},
		{Dotenv, "X=\"\"\n", "", "X=\"new\"\n"},
		{Dotenv, "X = a\n", "a", "X = new\n"},
		{Dotenv, "X='a'\n", "a", "X='new'\n"},
		{Dotenv, "X=\"a\"  # why\n", "a", "X=\"new\"  # why\n"},
		{Dotenv, "X=a # why\n", "a", "X=new # why\n"},
		{Dotenv, "X=a#b\n", "?", ""},
		{Dotenv, "X=a b\n", "?", ""},
		{Dotenv, "X=\"a$B\"\n", "?", ""},
		{Dotenv, "X=\"a\\n\"\n", "?", ""},
		{Dotenv, "X=`a`\n", "?", ""},
		{Dotenv, "X=\"a\nb\"\n", "?", ""},
		{Dotenv, "#X=a\n", "", "#X=a\nX=new\n"},
		{Dotenv, " X=a\n", "a", " X=new\n"},
		{Dotenv, "XY=a\nAX=b\n", "", "XY=a\nAX=b\nX=new\n"},
		{Dotenv, "X=a\nX=b\n", "b", "X=a\nX=new\n"},
		{Dotenv, "X=$A\nX=b\n", "b", "X=$A\nX=new\n"},
		{Dotenv, "X=b\nX=$A\n", "?", ""},
		{Dotenv, "A=\"1\nX=a\n\"\n", "?", ""},
		{Dotenv, "A=\"1\n2\"\nX=a\n", "a", "A=\"1\n2\"\nX=new\n"},
		{Dotenv, "A=\"1\nX=a\n", "?", ""},
		{Dotenv, "A=it's\nX=a\n", "a", "A=it's\nX=new\n"},
		{Dotenv, "\xef\xbb\xbfX=a\n", "a", "\xef\xbb\xbfX=new\n"},
		{Dotenv, "\n\n  \n", "", "\n\n  \nX=new\n"},
		{Dotenv, "X: a\n", "", "X: a\nX=new\n"},

		{Shell, "export X=a\n", "a", "export X=new\n"},
		{Shell, "X=a; export X\n", "a", "X=new; export X\n"},
		{Shell, "X=a; X=b\n", "?", ""},
		{Shell, "A=1; X=b\n", "?", ""},
		{Shell, "X=a cmd\n", "?", ""},
		{Shell, "X='a''b'\n", "?", ""},
		{Shell, "X=a\r\n", "?", ""},
		{Shell, "A=1\r\n", "", ""},
		{Shell, "X=a\nunset X\n", "?", ""},
		{Shell, "X=a\nread X\n", "?", ""},
		{Shell, "X=a\ndeclare -x X=b\n", "?", ""},
		{Shell, "X+=a\n", "?", ""},
		{Shell, "X=(a b)\n", "?", ""},
		{Shell, "X=$(cat f)\n", "?", ""},
		{Shell, "X=~/a\n", "?", ""},
		{Shell, "if [ -z \"$A\" ]; then\n  X=a\nfi\n", "?", ""},
		{Shell, "if [ -z \"$A\" ]; then\n  B=a\nfi\nX=a\n", "a", "if [ -z \"$A\" ]; then\n  B=a\nfi\nX=new\n"},
		{Shell, "f() {\n  X=a\n}\n", "?", ""},
		{Shell, "f() {\n  B=a\n}\nX=a\n", "a", "f() {\n  B=a\n}\nX=new\n"},
		{Shell, "function f {\nX=a\n}\n", "?", ""},
		{Shell, "(\nX=a\n)\n", "?", ""},
		{Shell, "case $A in\nb) C=1 ;;\nesac\nX=a\n", "a", "case $A in\nb) C=1 ;;\nesac\nX=new\n"},
		{Shell, "for i in 1 2; do echo $i; done\nX=a\n", "a", "for i in 1 2; do echo $i; done\nX=new\n"},
		{Shell, "while read l; do\nX=a\ndone\n", "?", ""},
		{Shell, "echo \"it's\nX=b\n\"\nX=a\n", "a", "echo \"it's\nX=b\n\"\nX=new\n"},
		{Shell, "echo 'open\nX=a\n", "?", ""},
		{Shell, "echo 'open\n", "", ""},
		{Shell, "cat <<EOF\nX=b\nEOF\nX=a\n", "a", "cat <<EOF\nX=b\nEOF\nX=new\n"},
		{Shell, "cat <<'E F'\nit's\nE F\nX=a\n", "a", "cat <<'E F'\nit's\nE F\nX=new\n"},
		{Shell, "cat <<-EOF\n\tX=b\n\tEOF\nX=a\n", "a", "cat <<-EOF\n\tX=b\n\tEOF\nX=new\n"},
		{Shell, "X=a\ncat <<EOF\nX=b\nEOF\n", "a", "X=new\ncat <<EOF\nX=b\nEOF\n"},
		{Shell, "A=$((1<<2))\nX=a\n", "a", "A=$((1<<2))\nX=new\n"},
		{Shell, "cat <<<a\nX=a\n", "a", "cat <<<a\nX=new\n"},
		{Shell, "A=b\\\nX=a\n", "?", ""},
		{Shell, "# it's\nX=a\n", "a", "# it's\nX=new\n"},
		{Shell, "echo a # it's\nX=a\n", "a", "echo a # it's\nX=new\n"},
		{Shell, "echo a#it\\'s\nX=a\n", "a", "echo a#it\\'s\nX=new\n"},
		{Shell, "A=$'it\\'s'\nX=a\n", "a", "A=$'it\\'s'\nX=new\n"},
		{Shell, "A=1\n", "", "A=1\nexport X=new\n"},
		{Shell, "A=1\\", "", ""},
		{Shell, "echo $X \"${X}\"\nX=a\n", "a", "echo $X \"${X}\"\nX=new\n"},
		{Shell, "export X\nX=a\n", "a", "export X\nX=new\n"},

		{Systemd, "X=a b\n", "a b", "X=new\n"},
		{Systemd, "; X=b\nX=a\n", "a", "; X=b\nX=new\n"},
		{Systemd, "# why \\\nX=a\n", "?", ""},
		{Systemd, "A=1 \\\nX=a\n", "?", ""},
		{Systemd, "export X=a\n", "?", ""},
		{Systemd, "A=\"1\nX=a\n", "?", ""},
		{Systemd, "A=\"1\n2\"\nX=a\n", "a", "A=\"1\n2\"\nX=new\n"},
		{Environment, "X=a\n", "a", "X=new\n"},
		{Environment, "export X=\"a\"\n", "a", "export X=\"new\"\n"},
		{Environment, "X=a #b\n", "?", ""},
		{Environment, "A=\"1\nX=a\n", "a", "A=\"1\nX=new\n"},
	}
}

func TestReadingAndEditing(t *testing.T) {
	for _, r := range readings() {
		doc := parse([]byte(r.text), r.format, "X")
		got := ""
		switch {
		case doc.last == nil:
		case doc.last.problem != "":
			got = "?"
		default:
			got = string(doc.last.value)
		}
		if got != r.value {
			t.Errorf("%s %q: read %q, want %q", r.format, r.text, got, r.value)
		}
		out, err := edit([]byte(r.text), r.format, "X", []byte("new"))
		if string(out) != r.put || (err != nil) != (r.put == "") {
			t.Errorf("%s %q: edited to %q (%v), want %q", r.format, r.text, out, err, r.put)
		}
	}
}

// TestRealShellsAgree sources every text of the table: what we claim to know is what the shells say, before and after.
func TestRealShellsAgree(t *testing.T) {
	for _, shell := range []string{"dash", "bash"} {
		t.Run(shell, func(t *testing.T) {
			sh, err := exec.LookPath(shell)
			if err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatalf("missing here: %s", shell)
				}
				t.Skipf("missing here: %s", shell)
			}
			path := filepath.Join(t.TempDir(), "f")
			ask := func(text string) string {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				c := exec.Command(sh, "-c", `exec 3>&1 >/dev/null 2>&1; . "$1"; printf %s "$X" >&3`, "sh", path)
				c.Env = []string{"PATH=/usr/bin:/bin"}
				out, _ := c.Output() // A text with a syntax error has no value either.
				return string(out)
			}
			for _, r := range readings() {
				if r.format != Shell || r.value == "?" || shell == "dash" && (strings.Contains(r.text, "<<<") || strings.Contains(r.text, "$'")) {
					continue
				}
				if got := ask(r.text); got != r.value {
					t.Errorf("%q: the shell says %q, we say %q", r.text, got, r.value)
				}
				if r.put != "" {
					if got := ask(r.put); got != "new" {
						t.Errorf("%q: after the edit the shell says %q", r.text, got)
					}
				}
			}
		})
	}
}

func TestGuess(t *testing.T) {
	for path, want := range map[string]Format{
		"/x/.env": Dotenv, "/x/a.env": Dotenv, "/home/a/.bashrc": Shell, "/etc/profile.d/a.sh": Shell, "/etc/environment": Environment, "/etc/default/app": Systemd, "a": Dotenv, "/x/.env.production": Dotenv,
	} {
		if got := guess(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// FuzzEdit edits files of any content. Whatever an edit accepts is read back, and the bytes around the value stay.
func FuzzEdit(f *testing.F) {
	formats := []Format{Dotenv, Shell, Systemd, Environment, Value}
	for _, r := range readings() {
		for i, format := range formats {
			if format == r.format {
				f.Add([]byte(r.text), byte(i))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, which byte) {
		format := formats[int(which)%len(formats)]
		kept := bytes.Clone(text)
		before := parse(text, format, "X")
		out, err := edit(text, format, "X", []byte("new"))
		if !bytes.Equal(text, kept) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			return
		}
		after := parse(out, format, "X")
		if after.last == nil || after.last.problem != "" || string(after.last.value) != "new" {
			t.Fatalf("%q -> %q: read back as %+v", text, out, after.last)
		}
		if s := before.last; s != nil {
			if !bytes.HasPrefix(out, text[:s.start]) || !bytes.HasSuffix(out, text[s.end:]) || len(out) > s.start+len("'new'")+len(text)-s.end {
				t.Fatalf("%q -> %q: more than the value changed", text, out)
			}
			if after.count != before.count {
				t.Fatalf("%q -> %q: %d settings became %d", text, out, before.count, after.count)
			}
		} else if format == Value {
			if want := "new" + string(text); len(text) > 0 && string(out) != want {
				t.Fatalf("%q -> %q: more than the value was added", text, out)
			}
		} else if !bytes.HasPrefix(out, text) || len(out) > len(text)+len("\r\nexport X=new\r\n") {
			t.Fatalf("%q -> %q: more than a line was added", text, out)
		}
		again, err := edit(out, format, "X", []byte("new"))
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q -> %q: a second edit gives %q, %v", text, out, again, err)
		}
	})
}
