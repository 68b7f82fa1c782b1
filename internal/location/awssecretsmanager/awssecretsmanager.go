// Package awssecretsmanager keeps a key in AWS Secrets Manager: as the whole string of a secret, or as one text member of
// its JSON object, whose other bytes it never changes. It never creates, deletes or restores a secret, never touches a
// version or label that another program made, and never overwrites: each write is a new version, and the move of the label
// AWSCURRENT to it is the service's own compare-and-set.
//
// The version ids that it makes are UUIDs of version 8 that begin with the bytes "keyw". They are derived from the secret, the
// member, the version that was in force and the new text, so that a repeated write finds its own version again.
package awssecretsmanager

import (
	"context"
	"crypto/sha256"
	_ "embed" // for meta.toml
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/awsclient"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// Config is the configuration of one location.
type Config struct {
	Secret   string `yaml:"secret" help:"Name of the secret, or its complete ARN." required:"true"`
	Field    string `yaml:"field" help:"Member of the secret's JSON object that holds the value; without it the whole string is the value."`
	Region   string `yaml:"region" help:"AWS region of the secret; an ARN already names it."`
	Profile  string `yaml:"profile" help:"Profile of the shared AWS configuration; without it the SDK's usual search finds the access key or role."`
	Endpoint string `yaml:"endpoint" help:"Other address of the service, such as a VPC endpoint: https, or http on this host."`
	Style    string `yaml:"style" help:"staged writes the new value as AWSPENDING first and moves AWSCURRENT after the health wait; direct does both at once." default:"staged" enum:"staged|direct"`
}

//go:embed meta.toml
var meta []byte

// Kind describes the connector.
func Kind() location.Kind { return location.NewKind("aws-secrets-manager", meta, Open) }

// Labels of the service, and the one that holds a version of ours until AWSCURRENT reaches it. A label is needed because a
// version made without one takes AWSCURRENT at once, whoever had it.
const (
	current  = "AWSCURRENT"
	previous = "AWSPREVIOUS"
	pending  = "AWSPENDING"
	writing  = "KEYWRIGHT"
)

// Facts of receipts and holdings.
const (
	factStaged  = "staged_version"
	factVersion = "version"
)

var (
	regionRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)+$`) })
	nameRE   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,512}$`) })
	arnRE    = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):[0-9]{12}:secret:([A-Za-z0-9/_+=.@-]{1,512})-[A-Za-z0-9]{6}$`)
	})
)

// Open makes the driver and no connection. With style staged it can also stage. Errors are Invalid.
func Open(cfg Config, _ location.Env) (location.Driver, error) {
	bad := func(what, hint string) error {
		return fault.New(fault.Invalid, "open secret: "+what, fault.Hint("%s", hint))
	}
	name := cfg.Secret
	if strings.HasPrefix(cfg.Secret, "arn:") {
		m := arnRE().FindStringSubmatch(cfg.Secret)
		switch {
		case m == nil:
			return nil, bad(fmt.Sprintf("%q is no complete ARN of a secret", cfg.Secret), "copy it from: aws secretsmanager describe-secret; it ends with a dash and six characters")
		case cfg.Region != "" && cfg.Region != m[1]:
			return nil, bad(fmt.Sprintf("the ARN is of region %q and not of %q", m[1], cfg.Region), "leave out region")
		}
		cfg.Region, name = m[1], m[2]
	}
	switch {
	case !nameRE().MatchString(name):
		return nil, bad(fmt.Sprintf("%q is no name of a secret", name), "letters, digits and /_+=.@- are allowed")
	case !regionRE().MatchString(cfg.Region):
		return nil, bad(fmt.Sprintf("%q is no region", cfg.Region), "name the region of the secret, such as us-east-1")
	case badName(cfg.Field):
		return nil, bad("the field has a character that no member name should have", "copy the member's name from the secret's JSON")
	}
	sdk, err := awsclient.New(awsclient.Options{Region: cfg.Region, Profile: cfg.Profile, Endpoint: cfg.Endpoint, HTTP: newWire()})
	if err != nil {
		return nil, fault.In(err, "open secret")
	}
	d := &driver{client: &client{cfg: cfg, aws: sdk}, field: cfg.Field}
	d.address = strings.Join([]string{cfg.Endpoint, cfg.Region, name}, "|")
	switch cfg.Style {
	case "direct":
		return d, nil
	case "", "staged":
		return &staged{d}, nil
	}
	return nil, bad(fmt.Sprintf("unknown style %q", cfg.Style), "staged or direct")
}

// badName finds what a member's name cannot have: control characters, and bytes that are no character.
func badName(field string) bool {
	return strings.ContainsFunc(field, func(r rune) bool { return r < 0x20 || r == utf8.RuneError })
}

// driver is a location of style direct. It is safe for concurrent use.
type driver struct {
	client  *client
	field   string
	address string
}

// staged is a location of style staged.
type staged struct{ *driver }

var (
	_ location.Driver    = (*driver)(nil)
	_ location.Reader    = (*driver)(nil)
	_ location.Restorer  = (*driver)(nil)
	_ location.Remover   = (*driver)(nil)
	_ location.Checker   = (*driver)(nil)
	_ location.Addresser = (*driver)(nil)
	_ location.Stager    = (*staged)(nil)
	_ location.Promoter  = (*staged)(nil)
	_ location.Unstager  = (*staged)(nil)
)

// snapshot is the secret as it was read.
type snapshot struct {
	current  string // version ids; empty where no version has the label
	previous string
	pending  string // empty too when it is the current one, as AWS's own rotation leaves it
	labels   map[string][]string
	document document // of the current version
	value    secret.Value
	changed  time.Time
	rotates  bool
	missing  bool // there is no such secret
}

// look reads the secret. AWSCURRENT is asked for by name, and its answer counts more than the list of labels, which may lag.
func (d *driver) look(ctx context.Context) (snapshot, error) {
	s := snapshot{document: document{field: d.field}}
	described, err := d.client.describe(ctx)
	if fault.Is(err, fault.NotFound) {
		s.missing = true
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if described.DeletedDate != nil {
		return s, fault.New(fault.Conflict, "read secret: it is scheduled for deletion", fault.Hint("aws secretsmanager restore-secret --secret-id %s, if it is still wanted", d.client.cfg.Secret))
	}
	s.labels, s.rotates = described.VersionIdsToStages, aws.ToBool(described.RotationEnabled)
	s.previous, s.pending = s.labelled(previous), s.labelled(pending)
	s.changed = aws.ToTime(described.LastChangedDate).UTC()
	if s.labelled(current) != "" {
		if s.current, s.document.text, err = d.client.get(ctx, "", current); err != nil {
			return s, err
		}
	}
	if s.pending == s.current {
		s.pending = ""
	}
	s.value, err = s.document.value()
	return s, err
}

func (s snapshot) labelled(label string) string {
	for id, labels := range s.labels {
		if slices.Contains(labels, label) {
			return id
		}
	}
	return ""
}

// holding is the snapshot without what is staged.
func (s snapshot) holding() location.Holding {
	h := location.Holding{Present: !s.value.IsZero(), How: location.ReadBack, Digest: s.value.Digest(), Fingerprint: s.value.Fingerprint(), ChangedAt: s.changed, Revision: s.current}
	if s.current != "" {
		h.Facts = map[string]string{factVersion: s.current}
	}
	return h
}

// Inspect reads the version with AWSCURRENT, and that with AWSPENDING where there is another. A secret that does not exist
// holds nothing. Its revision is the id of the current version.
func (d *driver) Inspect(ctx context.Context) (location.Holding, error) {
	s, err := d.look(ctx)
	if err != nil {
		return location.Holding{}, err
	}
	h := s.holding()
	if s.pending == "" {
		return h, nil
	}
	h.Pending = &location.Pending{Revision: s.pending, Ours: ours(s.pending)}
	text, err := d.version(ctx, s.pending)
	if err != nil {
		return location.Holding{}, err
	}
	// A staged text that is not as configured is not ours to judge: its digest stays unknown.
	if v, err := text.value(); err == nil {
		h.Pending.Digest = v.Digest()
	}
	return h, nil
}

// version reads a version by its id. One without a text, as AWS's own rotation makes first, gives the zero document.
func (d *driver) version(ctx context.Context, id string) (document, error) {
	_, text, err := d.client.get(ctx, id, "")
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unsupported) {
		err = nil
	}
	return document{field: d.field, text: text}, err
}

// Put makes a new version and moves AWSCURRENT to it, away from the version that was read. AWSPREVIOUS then names that one.
// What AWSPENDING names stays as it is.
func (d *driver) Put(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	const attempts = 3 // for writers that accept any state; for the others a change in between is a conflict
	for attempt := 1; ; attempt++ {
		s, err := d.prepare(ctx, v, expect)
		if err != nil {
			return location.Receipt{}, err
		}
		if s.value.Equal(v) {
			return s.receipt(), nil
		}
		id, err := d.write(ctx, s, v, writing)
		if err != nil {
			return location.Receipt{}, err
		}
		receipt, err := d.promote(ctx, s.current, id, writing)
		if err == nil || expect.Checked || attempt == attempts || !fault.Is(err, fault.Conflict) {
			return receipt, err
		}
	}
}

// prepare reads the secret and refuses what must not be written.
func (d *driver) prepare(ctx context.Context, v secret.Value, expect location.Expect) (snapshot, error) {
	if v.IsZero() {
		return snapshot{}, fault.New(fault.Invalid, "write secret: no value given")
	}
	s, err := d.look(ctx)
	if err != nil {
		return s, err
	}
	if s.missing {
		return s, d.absent()
	}
	if !s.value.Equal(v) && !expect.Matches(s.holding()) {
		return s, fault.New(fault.Conflict, "write secret: it is not in the state that was seen before", fault.Hint("see who changed it: look for PutSecretValue and UpdateSecretVersionStage in CloudTrail"))
	}
	return s, nil
}

// absent is the error of a secret that is not there.
func (d *driver) absent() error {
	return fault.New(fault.NotFound, fmt.Sprintf("write secret: there is no %q in %s", d.client.cfg.Secret, d.client.cfg.Region), fault.Hint("make it without a value: aws secretsmanager create-secret --region %s --name NAME", d.client.cfg.Region))
}

// receipt tells of a write that had been made before. What it replaced is known when the version is ours.
func (s snapshot) receipt() location.Receipt {
	r := location.Receipt{Revision: s.current, At: s.changed, Facts: map[string]string{factStaged: s.current}}
	if ours(s.current) {
		r.Replaced = s.previous
	}
	return r
}

// write makes the version that holds v, with the label, and gives its id. Nothing is in force yet, except where
// the secret had no version at all: then the service gives the first one AWSCURRENT by itself.
func (d *driver) write(ctx context.Context, s snapshot, v secret.Value, label string) (string, error) {
	next, err := s.document.with(v)
	if err != nil {
		return "", err
	}
	id := d.versionID(s.current, next)
	labels, err := d.client.put(ctx, id, label, next.text)
	if err != nil {
		return "", err
	}
	if s.current == "" {
		if !slices.Contains(labels, current) {
			return "", fault.New(fault.Conflict, "write secret: somebody else gave it a first value")
		}
		return id, nil
	}
	if label == pending && !slices.Contains(labels, label) {
		// The version was there, made by an earlier attempt, and the service then leaves its labels alone.
		if err := d.client.move(ctx, label, s.pending, id); err != nil {
			return "", err
		}
	}
	return id, nil
}

// promote moves AWSCURRENT from one version to another and then takes the label that held the new one until now.
func (d *driver) promote(ctx context.Context, from, to, label string) (location.Receipt, error) {
	receipt := location.Receipt{Revision: to, Replaced: from, Facts: map[string]string{factStaged: to}}
	if from != "" {
		err := d.client.move(ctx, current, from, to)
		if refused(err) {
			return location.Receipt{}, fault.New(fault.Conflict, "move label AWSCURRENT: another version has it now")
		}
		if err != nil {
			return location.Receipt{}, err
		}
	}
	d.drop(ctx, label, to)
	return receipt, nil
}

// refused reports whether the service found that a label is not where the call said, or that a version is gone.
func refused(err error) bool {
	return fault.Is(err, fault.Invalid) || fault.Is(err, fault.Conflict) || fault.Is(err, fault.NotFound)
}

// drop takes a helping label off a version that is in force. A failure is not reported: the label does no harm there, AWS's own
// rotation leaves AWSPENDING in the same way, and the next write takes it along.
func (d *driver) drop(ctx context.Context, label, id string) {
	_ = d.client.move(ctx, label, id, "")
}

// Read gives the value of the version with AWSCURRENT.
func (d *driver) Read(ctx context.Context) (secret.Value, error) {
	s, err := d.look(ctx)
	if err == nil && s.value.IsZero() {
		err = fault.New(fault.NotFound, "read secret: it holds no value")
	}
	return s.value, err
}

// Stage writes v as a new version with the label AWSPENDING. Conflict when AWSPENDING is on a version that is not ours, or AWS's
// own rotation is on: it would take our version for its own.
func (d *staged) Stage(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	s, err := d.prepare(ctx, v, expect)
	if err != nil {
		return location.Receipt{}, err
	}
	if s.value.Equal(v) {
		return s.receipt(), nil
	}
	if err := errorOf(d.foreign(s)); err != nil {
		return location.Receipt{}, err
	}
	id, err := d.write(ctx, s, v, pending)
	if err != nil {
		return location.Receipt{}, err
	}
	return location.Receipt{Revision: s.current, Replaced: s.current, Facts: map[string]string{factStaged: id}}, nil
}

// Promote moves AWSCURRENT to the staged version, provided that it is still on the version that Stage saw. On Conflict the
// caller stages again, so that the neighbours in the document are the current ones.
func (d *staged) Promote(ctx context.Context, receipt location.Receipt) (location.Receipt, error) {
	id := receipt.Facts[factStaged]
	if !ours(id) && id != receipt.Revision {
		return location.Receipt{}, fault.New(fault.Invalid, "promote secret: the receipt names no staged version")
	}
	s, err := d.look(ctx)
	switch {
	case err != nil:
		return location.Receipt{}, err
	case s.current != "" && s.current == id:
		if slices.Contains(s.labels[id], pending) {
			d.drop(ctx, pending, id)
		}
		return s.receipt(), nil
	case s.current != receipt.Revision, s.pending != id:
		return location.Receipt{}, fault.New(fault.Conflict, "promote secret: it was changed since the value was staged")
	}
	return d.promote(ctx, s.current, id, pending)
}

// Unstage takes AWSPENDING off the version that Stage made, when it is still there and not in force. Without a receipt it is
// the version that Stage would make of the staged text now.
func (d *staged) Unstage(ctx context.Context, receipt location.Receipt) error {
	s, err := d.look(ctx)
	if err != nil || s.pending == "" || !ours(s.pending) {
		return err
	}
	if id := receipt.Facts[factStaged]; id != "" {
		if id != s.pending {
			return nil
		}
	} else {
		text, err := d.version(ctx, s.pending)
		if err != nil || d.versionID(s.current, text) != s.pending {
			return err
		}
	}
	if err := d.client.move(ctx, pending, s.pending, ""); !refused(err) {
		return err
	}
	return nil
}

// Restore moves AWSCURRENT back to the version that was replaced, provided that it is still on the one that replaced it.
func (d *driver) Restore(ctx context.Context, promoted location.Receipt) (location.Receipt, error) {
	s, err := d.look(ctx)
	switch {
	case err != nil:
		return location.Receipt{}, err
	case promoted.Replaced == "" || promoted.Revision == promoted.Replaced:
		return location.Receipt{}, fault.New(fault.Conflict, "restore secret: the receipt names no earlier version")
	case s.current == promoted.Replaced:
		return location.Receipt{Revision: s.current, Replaced: promoted.Revision, At: s.changed}, nil
	case s.current != promoted.Revision:
		return location.Receipt{}, fault.New(fault.Conflict, "restore secret: it was changed since")
	}
	err = d.client.move(ctx, current, promoted.Revision, promoted.Replaced)
	if refused(err) {
		return location.Receipt{}, fault.New(fault.Conflict, "restore secret: it was changed since, or the earlier version is gone")
	}
	if err != nil {
		return location.Receipt{}, err
	}
	if slices.Contains(s.labels[promoted.Revision], pending) && ours(promoted.Revision) {
		d.drop(ctx, pending, promoted.Revision)
	}
	return location.Receipt{Revision: promoted.Replaced, Replaced: promoted.Revision}, nil
}

// Remove takes every label off the versions of ours that hold the old value and are not in force. The service cannot delete a
// version: one without labels is deprecated, and is deleted by it at some later time.
func (d *driver) Remove(ctx context.Context, old apikey.Digest) error {
	s, err := d.look(ctx)
	if err != nil || s.missing {
		return err
	}
	for id, labels := range s.labels {
		if !ours(id) || id == s.current || slices.Contains(labels, current) {
			continue
		}
		text, err := d.version(ctx, id)
		if err != nil {
			return err
		}
		if v, err := text.value(); err != nil || !v.Digest().Same(old) {
			continue
		}
		for _, label := range labels {
			if err := d.client.move(ctx, label, id, ""); err != nil && !refused(err) {
				return err
			}
		}
	}
	return nil
}

// Check reads as Inspect does, and then makes the two writing calls in a form that the service must refuse for its content, so that a
// missing right shows as such and nothing is written: the id of the current version with another text, and the removal of a
// label that is not there. The trail of the account shows both as failed calls.
func (d *driver) Check(ctx context.Context) []error {
	s, err := d.look(ctx)
	if err != nil {
		return []error{err}
	}
	if s.missing {
		return []error{d.absent()}
	}
	errs := d.foreign(s)
	const label = "KEYWRIGHT_CHECK"
	if s.current == "" || slices.Contains(s.labels[s.current], pending) {
		return errs
	}
	_, err = d.client.put(ctx, s.current, label, secret.New([]byte("keywright asks whether it may write")))
	if err != nil && !refused(err) {
		errs = append(errs, err)
	}
	if err := d.client.move(ctx, label, s.current, ""); err != nil && !refused(err) {
		errs = append(errs, err)
	}
	return errs
}

// foreign names what would get into the way of staging.
func (d *driver) foreign(s snapshot) []error {
	var errs []error
	if s.rotates {
		errs = append(errs, fault.New(fault.Conflict, "read secret: AWS's own rotation is switched on for it", fault.Hint("one of the two must rotate; to leave it to Keywright: aws secretsmanager cancel-rotate-secret --secret-id %s", d.client.cfg.Secret)))
	}
	if s.pending != "" && !ours(s.pending) {
		errs = append(errs, fault.New(fault.Conflict, fmt.Sprintf("read secret: the label AWSPENDING is on version %q, which another program made", s.pending), fault.Hint("when nothing uses it: aws secretsmanager update-secret-version-stage --secret-id %s --version-stage AWSPENDING --remove-from-version-id %s", d.client.cfg.Secret, s.pending)))
	}
	return errs
}

func errorOf(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return errs[0]
}

// Address names the secret; the member is no part of it.
func (d *driver) Address() string { return d.address }

// versionID gives the id of the version that turns the version base into next.
func (d *driver) versionID(base string, next document) string {
	digest := next.text.Digest()
	h := sha256.New()
	for _, part := range []string{"keywright version 1", d.address, d.field, base, string(digest[:])} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	id := h.Sum(nil)[:16]
	copy(id, "keyw")
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	x := hex.EncodeToString(id)
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}

var oursRE = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^` + hex.EncodeToString([]byte("keyw")) + `-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
})

// ours reports whether Keywright made the version.
func ours(id string) bool { return oursRE().MatchString(id) }
