// Package envfile is the location kind "env-file": one variable in a dotenv file, a shell profile, /etc/environment or an
// EnvironmentFile of systemd. It changes the bytes of that one value, and replaces the file in one step. It never runs a file
// to find out what it means: what it is unsure of it refuses to change. Called by location.Location.
package envfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

//go:embed meta.toml
var meta []byte

// Config is what stands under a location of this kind.
type Config struct {
	Path       string `yaml:"path" required:"true" help:"The file. A relative path starts at the directory of the configuration file; links are followed to the file itself."`
	Variable   string `yaml:"variable" help:"The variable that holds the key's value. Required, but for the format value."`
	Format     Format `yaml:"format" default:"auto" enum:"auto|dotenv|shell|systemd|environment|value" help:"How the file is read by its consumers; auto decides by its name. value: the file holds the value alone, as a mounted secret or the gateway's key file does."`
	Create     bool   `yaml:"create" default:"false" help:"Make the file when it does not exist."`
	Mode       string `yaml:"mode" default:"0600" help:"Permission bits, in octal, of a file that is made."`
	AllowGroup bool   `yaml:"allow_group" default:"false" help:"Accept a file that its group may read."`
}

// Kind describes the connector.
func Kind() location.Kind { return location.NewKind("env-file", meta, New) }

var variableRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Driver changes one variable of one file. It is safe for concurrent use, also by several processes.
type Driver struct {
	path     string
	variable string
	format   Format
	create   bool
	mode     fs.FileMode
	others   fs.FileMode // permission bits that are refused
}

var (
	_ location.Driver    = (*Driver)(nil)
	_ location.Reader    = (*Driver)(nil)
	_ location.Checker   = (*Driver)(nil)
	_ location.Addresser = (*Driver)(nil)
)

// New makes a driver. It opens no file. Errors are Invalid.
func New(c Config, env location.Env) (*Driver, error) {
	bad := func(format string, args ...any) (*Driver, error) {
		return nil, fault.Newf(fault.Invalid, "open env-file: "+format, args...)
	}
	if c.Path == "" {
		return bad("path is missing")
	}
	switch {
	case c.Format == Value && c.Variable != "":
		return bad("a file that holds the value alone has no variable")
	case c.Format != Value && c.Variable == "":
		return bad("variable is missing; a file that holds the value alone has format: value")
	case c.Format != Value && !variableRE.MatchString(c.Variable):
		return bad("variable %q is no name of an environment variable", c.Variable)
	}
	d := &Driver{path: c.Path, variable: c.Variable, format: c.Format, create: c.Create, others: 0o077}
	if !filepath.IsAbs(d.path) {
		d.path = filepath.Join(env.Dir, d.path)
	}
	if c.AllowGroup {
		d.others = 0o037
	}
	switch c.Format {
	case Dotenv, Shell, Systemd, Environment, Value:
	case Auto, "":
		d.format = guess(d.path)
	default:
		return bad("unknown format %q", string(c.Format))
	}
	if c.Mode == "" {
		c.Mode = "0600"
	}
	mode, err := strconv.ParseUint(c.Mode, 8, 12)
	if err != nil || fs.FileMode(mode)&^fs.ModePerm != 0 || mode&0o600 != 0o600 {
		return bad("mode %q: want octal permission bits such as 0600", c.Mode)
	}
	if d.mode = fs.FileMode(mode); d.mode&d.others != 0 {
		return bad("mode %q lets other users read the file", c.Mode)
	}
	return d, nil
}

// state is all that one look at the file gives. The caller calls wipe.
type state struct {
	file    *content
	doc     document
	holding location.Holding
}

func (s *state) wipe() {
	if s.file != nil {
		clear(s.file.text)
	}
}

// look reads the file and says what it holds.
func (d *Driver) look(p *place) (*state, error) {
	file, err := p.read()
	if err != nil {
		return nil, err
	}
	s := &state{file: file, holding: location.Holding{How: location.ReadBack, Facts: map[string]string{"path": p.path}}}
	h := &s.holding
	if file == nil {
		h.Revision = "no file"
		return s, nil
	}
	s.doc = parse(file.text, d.format, d.variable)
	h.ChangedAt = file.info.ModTime().UTC()
	h.Facts["mode"] = fmt.Sprintf("%04o", file.info.Mode().Perm())
	last := s.doc.last
	if s.doc.count > 1 {
		h.Facts["settings"] = fmt.Sprintf("set %d times, the last one counts", s.doc.count)
	}
	switch {
	case last == nil:
	case last.problem != "":
		h.Present, h.How = true, location.Nothing
		h.Facts["unclear"] = (&problem{last.line, last.problem}).Error()
	case len(last.value) > 0:
		h.Present = true
		h.Digest = sha256.Sum256(last.value)
		h.Facts["line"] = strconv.Itoa(last.line)
	}
	h.Revision = revision(file, last, h.Digest)
	return s, nil
}

// revision marks the state of the file without its value: identity and time of the file, its text with the value left out, and
// the value's digest, hashed together.
func revision(file *content, last *setting, d apikey.Digest) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %d %d %x\n", file.stat.Dev, file.stat.Ino, file.info.ModTime().UnixNano(), d)
	if last != nil && last.problem == "" {
		sum.Write(file.text[:last.start])
		sum.Write([]byte{0})
		sum.Write(file.text[last.end:])
	} else {
		sum.Write(file.text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// Inspect reads the file. What a killed writer left beside it is erased. Where it is unsure which value the variable
// has, How is Nothing and the fact "unclear" says why.
func (d *Driver) Inspect(ctx context.Context) (location.Holding, error) {
	if ctx.Err() != nil {
		return location.Holding{}, stopped(ctx, "read file")
	}
	p, err := openPlace(d.path)
	if errors.Is(err, errNoFile) {
		return location.Holding{How: location.ReadBack, Revision: "no file"}, nil
	}
	if err != nil {
		return location.Holding{}, err
	}
	defer p.close()
	p.sweep()
	s, err := d.look(p)
	if err != nil {
		return location.Holding{}, err
	}
	defer s.wipe()
	return s.holding, nil
}

// Read gives out the value. Invalid when it is unsure which one it is.
func (d *Driver) Read(ctx context.Context) (secret.Value, error) {
	if ctx.Err() != nil {
		return secret.Value{}, stopped(ctx, "read file")
	}
	p, err := openPlace(d.path)
	if err != nil {
		return secret.Value{}, err
	}
	defer p.close()
	s, err := d.look(p)
	if err != nil {
		return secret.Value{}, err
	}
	defer s.wipe()
	switch last := s.doc.last; {
	case last != nil && last.problem != "":
		return secret.Value{}, d.unclear(p, &problem{last.line, last.problem})
	case !s.holding.Present:
		return secret.Value{}, fault.Newf(fault.NotFound, "read %q: no value is set", p.path)
	default:
		return secret.New(bytes.Clone(last.value)), nil
	}
}

func (d *Driver) unclear(p *place, err error) error {
	what := fmt.Sprintf("read %s in %q", d.variable, p.path)
	hint := fmt.Sprintf("write it as one plain line, %s=value, the last in the file, or give it a file of its own", d.variable)
	if d.format == Value {
		what, hint = fmt.Sprintf("read %q", p.path), "write the value alone into the file, or name the format that it has"
	}
	if why, ok := errors.AsType[*problem](err); ok {
		return fault.New(fault.Invalid, what+": "+why.Error(), fault.Hint("%s", hint))
	}
	return fault.New(fault.Invalid, what, fault.Hint("%s", hint))
}

// Put sets the variable. All other bytes of the file, its owner, permissions and attributes stay. Invalid for a value with
// characters that the formats read differently, and for a file whose effect is not certain; Forbidden for a file that others may read.
func (d *Driver) Put(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	if ctx.Err() != nil {
		return location.Receipt{}, stopped(ctx, "write file")
	}
	safe := false
	v.Reveal(func(b []byte) { safe = plain(b) })
	if !safe {
		return location.Receipt{}, fault.New(fault.Invalid, "write file: the value holds characters that programs read differently in such a file",
			fault.Hint("a key holds letters, digits, - and _ alone; check what was handed in"))
	}
	p, err := openPlace(d.path)
	if err != nil {
		return location.Receipt{}, err
	}
	defer p.close()
	if err := d.mayMake(p); err != nil {
		return location.Receipt{}, err
	}
	lock, err := p.lock(ctx)
	if err != nil {
		return location.Receipt{}, err
	}
	// After the rename the name is gone, and this does nothing but close.
	defer lock.release()
	return d.put(ctx, p, lock, v, expect)
}

// mayMake refuses early where there is no file and none may be made, so that nothing is written beside it.
func (d *Driver) mayMake(p *place) error {
	if _, err := p.dir.Lstat(p.base); errors.Is(err, fs.ErrNotExist) && !d.create {
		return fault.New(fault.NotFound, fmt.Sprintf("write %q: no such file", p.path), fault.Hint("make it, or set create: true"))
	}
	return nil
}

func (d *Driver) put(ctx context.Context, p *place, lock *sibling, v secret.Value, expect location.Expect) (location.Receipt, error) {
	s, err := d.look(p)
	if err != nil {
		return location.Receipt{}, err
	}
	defer s.wipe()
	if !expect.Matches(s.holding) {
		return location.Receipt{}, fault.New(fault.Conflict, fmt.Sprintf("write %q: it is not in the state that was seen before", p.path), fault.Hint("somebody changed it; look at it, then plan again"))
	}
	if err := d.refuse(p, s.file); err != nil {
		return location.Receipt{}, err
	}
	before := s.holding.Revision
	if s.holding.Holds(v.Digest()) {
		return location.Receipt{Revision: before, Replaced: before, At: s.holding.ChangedAt}, nil
	}
	var old, text []byte
	if s.file != nil {
		old = s.file.text
	}
	v.Reveal(func(b []byte) { text, err = edit(old, d.format, d.variable, b) })
	if err != nil {
		return location.Receipt{}, d.unclear(p, err)
	}
	defer clear(text)
	if len(text) > limit {
		return location.Receipt{}, fault.Newf(fault.Invalid, "write %q: it would be larger than %d bytes", p.path, limit)
	}
	if err := p.replace(ctx, lock, s.file, text, d.mode); err != nil {
		return location.Receipt{}, err
	}
	after, err := d.look(p)
	if err != nil {
		return location.Receipt{Replaced: before}, fault.Wrap(fault.Indeterminate, err, "write file: done, and it could not be looked at")
	}
	defer after.wipe()
	return location.Receipt{Revision: after.holding.Revision, Replaced: before, At: after.holding.ChangedAt, Facts: map[string]string{"path": p.path}}, nil
}

// refuse says why a file must not hold a key: others may read or change it, or it has a second name that a replacement
// would leave with the old value.
func (d *Driver) refuse(p *place, file *content) error {
	if file == nil {
		if !d.create {
			return d.mayMake(p)
		}
		return nil
	}
	if perm := file.info.Mode().Perm(); perm&d.others != 0 {
		hint := fmt.Sprintf("chmod 600 %s", p.path)
		if perm&d.others&^0o040 == 0 {
			hint += ", or set allow_group: true"
		}
		return fault.New(fault.Forbidden, fmt.Sprintf("use %q: other users may read or change it (mode %04o)", p.path, perm), fault.Hint("%s", hint))
	}
	if file.stat.Nlink > 1 {
		return fault.New(fault.Invalid, fmt.Sprintf("use %q: it has %d names (hard links), and the others would keep the old value", p.path, file.stat.Nlink), fault.Hint("make the other names symbolic links"))
	}
	return nil
}

// Check looks whether Put could work: the file or the right to make it, its permissions, the directory's, and whether it is
// certain what the variable is. It writes nothing.
func (d *Driver) Check(ctx context.Context) []error {
	if ctx.Err() != nil {
		return []error{stopped(ctx, "check file")}
	}
	p, err := openPlace(d.path)
	if err != nil {
		return []error{err}
	}
	defer p.close()
	var errs []error
	if err := unix.Access(filepath.Dir(p.path), unix.W_OK|unix.X_OK); err != nil {
		errs = append(errs, named(err, "write in directory", filepath.Dir(p.path)))
	}
	s, err := d.look(p)
	if err != nil {
		return append(errs, err)
	}
	defer s.wipe()
	if err := d.refuse(p, s.file); err != nil {
		errs = append(errs, err)
	}
	if s.file == nil {
		return errs
	}
	if int(s.file.stat.Uid) != os.Geteuid() && os.Geteuid() != 0 {
		errs = append(errs, fault.New(fault.Forbidden, fmt.Sprintf("use %q: it belongs to uid %d, and only that user or root can replace it and keep the owner", p.path, s.file.stat.Uid),
			fault.Hint("run Keywright as that user")))
	}
	// A trial edit, in memory, with a value of the right alphabet.
	trial, err := edit(s.file.text, d.format, d.variable, []byte("trial"))
	clear(trial)
	if err != nil {
		errs = append(errs, d.unclear(p, err))
	}
	return errs
}

// Address is the absolute path of the file, links resolved.
func (d *Driver) Address() string {
	if real, err := resolve(d.path); err == nil {
		return real
	}
	if abs, err := filepath.Abs(d.path); err == nil {
		return abs
	}
	return d.path
}
