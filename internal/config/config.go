// Package config is the one reader of keywright.yaml. It says in which file, line and column something is wrong and what
// is allowed there, fills in what follows from classes and defaults, and opens the configured locations. It never holds a
// value: values stand elsewhere and are named by references. It makes no connection, and quotes nothing in an error that
// may be a value. Called by app and cli.
package config

//go:generate go run ../tools/genconfig

import (
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/secret"
)

// Config is the whole configuration after Load: checked, and with every default filled in. It is not changed afterwards, and
// safe for concurrent use.
type Config struct {
	Include      []string             `yaml:"include" help:"Further files of the same form, relative to the file that names them. What they define is added; the same name defined twice is an error."`
	Organization string               `yaml:"organization" required:"true" help:"Your organization's short name: the first part of the names that new keys get in the Console. Lower-case letters, digits and dashes."`
	Provider     Provider             `yaml:"provider" help:"The issuer of the keys."`
	State        State                `yaml:"state" help:"Where Keywright keeps what it must remember."`
	Classes      map[string]*Class    `yaml:"classes" help:"Sorts of keys. production-primary, production-secondary, staging and development are built in; what stands here overrides single fields of them, or adds classes."`
	Keys         map[apikey.Name]*Key `yaml:"keys" help:"The keys by name: 1 to 63 lower-case letters, digits and inner dashes."`
	Locations    map[string]*Location `yaml:"locations" help:"The places that hold copies of keys, by a name of your choice."`
	Gateway      *Gateway             `yaml:"gateway" help:"The proxy that holds keys, so that applications hold none; docs/gateway.md."`
	Contacts     []Contact            `yaml:"contacts" help:"People who are named when something needs one. Those with the role approver are who may approve."`
	Notify       []Channel            `yaml:"notify" help:"Channels that are told what happened and what is wanted, without values."`
	Limits       Limits               `yaml:"limits" help:"Bounds for work that runs side by side."`

	// Dir is the directory of the first file; relative paths start there, but for those in include.
	Dir string `yaml:"-"`
	// Source lists the files that were read, in order, as absolute paths.
	Source []string `yaml:"-"`

	// MasterDir is the directory for a master key that the file does not name: outside the state directory.
	MasterDir string `yaml:"-"`

	kinds kinds
}

// Provider is the issuer of the keys.
type Provider struct {
	Type       string     `yaml:"type" default:"anthropic" enum:"anthropic" help:"The sort of issuer."`
	URL        string     `yaml:"url" default:"https://api.anthropic.com" help:"Address of the API: https, or http on this host."`
	AdminKey   secret.Ref `yaml:"admin_key" help:"Where the Admin API key can be read: env:NAME, file:PATH or cmd:PROGRAM ARGUMENTS. Without it keys are retired by hand in the Console and their usage cannot be seen."`
	SmokeModel string     `yaml:"smoke_model" help:"Model that the smoke message of a test asks. Without it the cheapest current one."`
}

// State says where Keywright keeps what it must remember.
type State struct {
	Dir       string `yaml:"dir" help:"Private directory for the database and notes, with mode 0700. Without it $XDG_STATE_HOME/keywright/ORGANIZATION, as root /var/lib/keywright/ORGANIZATION."`
	Store     Store  `yaml:"store" help:"The database: the path of an SQLite file, a postgres:// URL without a password, or a reference (env:, file:, cmd:) to such a URL. Without it keywright.db in the state directory."`
	MasterKey string `yaml:"master_key" help:"What seals the values in the database: file:PATH, systemd:NAME, passphrase:REFERENCE, age:PATH or aws-kms:KEY?region=REGION. Without it the systemd credential keywright-master if there is one, else the file master.key in Keywright's configuration directory."`
	Witness   string `yaml:"witness" help:"File outside the state directory, best on another disk or host, to which signed checkpoints of the audit log go. Without it the log is not protected against the owner of this host."`
}

// Policy is what a class says of its keys, and a key may say otherwise.
type Policy struct {
	RotateEvery time.Duration `yaml:"rotate_every" help:"How old a key may grow before it is due."`
	Soak        time.Duration `yaml:"soak,always" help:"How long the old and the new key both work, and usage is watched, before the old one may be retired."`
	Watch       time.Duration `yaml:"watch,always" help:"How long a retired key stays inactive, and comes back if it is missed, before it is archived."`
	HealthWait  time.Duration `yaml:"health_wait,always" help:"How long to wait between staging a new value and putting it in force, and after a reload."`
	Approvals   int           `yaml:"approvals,always" help:"How many other people must say yes before production changes."`
	Windows     []Window      `yaml:"windows,always" help:"When scheduled changes of production may begin, as DAYS FROM-TO ZONE, such as Mon-Thu 09:00-16:00 Europe/Berlin. Without any: always."`
	Automatic   bool          `yaml:"automatic,always" help:"Whether keywright serve begins the rotation by itself when the key is due: in a window, with a spare that the provider accepts, and only where no place and no retiring needs a person. Approvals are still waited for."`
	Parallel    int           `yaml:"parallel" help:"How many places of one batch change at once. Without it what limits says."`
}

// Class is a sort of key.
type Class struct {
	Name        string             `yaml:"-"`
	Environment apikey.Environment `yaml:"environment" help:"Where keys of this class are used: production, staging, development or a name of your own. A value in two environments is refused. Own classes must name it, and start from the built-in class of that environment."`
	Risk        string             `yaml:"risk" enum:"critical|high|medium|low" help:"Shown, never acted on."`
	Policy      `yaml:",inline"`
}

// Key is one slot with a job. Waves, Policy and Environment are filled in by Load.
type Key struct {
	Name         apikey.Name        `yaml:"-"`
	Class        string             `yaml:"class" required:"true" help:"The class, which gives the environment and every interval that the key does not set itself."`
	Environment  apikey.Environment `yaml:"environment" help:"Where the key is used. Without it that of the class."`
	Owner        string             `yaml:"owner" required:"true" help:"Who answers for the key: a person or a team, as an address where they can be reached."`
	Purpose      string             `yaml:"purpose" help:"What the key is for, in one line; it stands in the record."`
	Organization string             `yaml:"organization" help:"UUID of the organization at the provider that values must belong to. Without it a person confirms it at the first intake."`
	Workspace    string             `yaml:"workspace" help:"Id of the workspace (wrkspc_…), or default, that values must belong to."`
	Backup       apikey.Name        `yaml:"backup" help:"The key that takes over in an emergency."`
	Test         []Test             `yaml:"test" help:"Checks that are made with a new value before anything is changed."`
	Readers      []string           `yaml:"readers" help:"Who may read the value from keywright serve, besides its own user: user:NAME on its Unix socket, or the name of a reader that was enrolled (keywright reader enroll) over mutual TLS."`
	Locations    []string           `yaml:"locations" help:"Short form of waves: those with production: false make the first wave, the others the second."`
	Waves        []Wave             `yaml:"waves" help:"The places of the key in the order in which they change; each wave is finished before the next begins."`
	Policy       `yaml:",inline"`
}

// Wave is a set of places that change together, in batches.
type Wave struct {
	Name       string        `yaml:"name" required:"true" help:"Name of the wave."`
	Locations  []string      `yaml:"locations" required:"true" help:"Names of the locations."`
	Production bool          `yaml:"production,always" help:"Whether approval and windows are needed before it. Without it true, unless the wave is called staging or the key's environment is not production."`
	Batch      Batch         `yaml:"batch" help:"How many places change at a time: a share such as 34%, a number, or growing shares such as [10%, 50%, 100%]. Without it all at once."`
	Watch      time.Duration `yaml:"watch" help:"How long the consumers are watched after each wave before the next begins."`
}

// Batches gives the locations of the wave in the order and groups in which they change.
func (w Wave) Batches() [][]string { return w.Batch.Split(w.Locations) }

// Test is a check that the owner of a key wants made with a new value. Exactly one of Command and HTTP is set.
type Test struct {
	Key     apikey.Name   `yaml:"-"` // the key that it tests
	Name    string        `yaml:"name" help:"What it is called on screens. Without it the command or the address."`
	Command Argv          `yaml:"command" help:"Program and arguments, as a list or as one line; no shell. It gets the value on standard input and must end with 0."`
	Env     string        `yaml:"env" help:"Name of the environment variable in which the command gets the value, in place of standard input."`
	Pass    []string      `yaml:"pass" help:"Names of environment variables that the command sees besides PATH, HOME, LANG and TZ."`
	HTTP    *HTTPTest     `yaml:"http" help:"A request that must be answered as expected."`
	Timeout time.Duration `yaml:"timeout" default:"60s" help:"How long it may take."`
}

// HTTPTest is one request.
type HTTPTest struct {
	URL    string `yaml:"url" required:"true" help:"Address: https, or http on this host."`
	Method string `yaml:"method" default:"GET" enum:"GET|HEAD|POST" help:"Method of the request; the body is empty."`
	Expect int    `yaml:"expect" default:"200" help:"The status that means yes."`
	Header string `yaml:"header" help:"Name of the request header that carries the value, such as x-api-key. Without it the request carries no value."`
}

// Contact is a person or a team.
type Contact struct {
	Role    string `yaml:"role" required:"true" help:"What they are asked for, such as approver, on-call or security."`
	Name    string `yaml:"name" required:"true" help:"Name of the person or the team."`
	Contact string `yaml:"contact" required:"true" help:"How to reach them: an address, a number, a channel."`
}

// Channel is a way to tell people. Exactly one field is set.
type Channel struct {
	Command Argv     `yaml:"command" help:"Program and arguments, as a list or as one line; no shell. It gets one JSON object on standard input."`
	Webhook *Webhook `yaml:"webhook" help:"A request with one JSON object, signed by HMAC."`
}

// Webhook is an address that is told what happened.
type Webhook struct {
	URL    string     `yaml:"url" required:"true" help:"Address: https, or http on this host."`
	Secret secret.Ref `yaml:"secret" help:"Where the key of the signature can be read: env:NAME, file:PATH or cmd:PROGRAM ARGUMENTS."`
}

// Limits bound work that runs side by side.
type Limits struct {
	Parallel int `yaml:"parallel" default:"16" help:"How many places change at once."`
}
