// Package arch is the drawing of the house: which packages exist, on which level each stands, and which walls none may pass. Its
// test reads the imports of the tree and fails with the reason. Nothing imports it.
package arch

// levels gives the level of every package below internal, by path; a trailing slash stands for every package in a folder. An import goes from a
// level to a lower one; within a level only what same lists.
var levels = map[string]int{
	// words, and the careful ways to touch files and programs
	"apikey": 0, "fault": 0, "awswire": 1, "child": 1, "harden": 1, "keyfile": 2,
	// values, facts and decisions
	"secret": 10, "event": 10, "policy": 10, "rotation": 10, "verdict": 10,
	// one job each
	"httpx": 20, "guard": 20, "audit": 20, "custody": 20, "gitobj": 20, "scan": 20, "sqlfile": 20, "store": 21, "scan/": 22, "scan/run": 23,
	"handover": 20, "awsclient": 21, "keysource": 24, "keysource/": 25, "keysource/all": 26, "keyring/internal/place": 27, "keyring/": 28,
	// contracts
	"location": 30, "provider": 30, "notify": 30, "gateway/ledger": 28, "gateway/object": 28, "gateway/": 29, "gateway": 30,
	// one connector each
	"consumer": 40, "location/": 40, "provider/": 40, "notify/": 40, "location/all": 41,
	// use the contracts
	"intake": 50, "discover": 50, "monitor": 50, "report": 50, "runner": 50, "config": 50, "api": 50, "web": 50, "simulator": 50,
	"release": 50,
	// assembly and the command line
	"app": 60, "demo": 70, "cli": 80,
}

// same lists the imports within a level, each with its reason.
var same = map[[2]string]string{}

// tests lists packages that are for tests or generators alone: nothing in the binary may import them.
var tests = []string{"certtest", "secret/secrettest", "location/locationtest", "location/memory", "provider/providertest", "peers", "scan/plant", "tools/", "arch"}

// walled lists the packages that need no value and must not be able to name one, not even through others.
var walled = []string{"apikey", "fault", "policy", "rotation", "event", "audit", "notify", "notify/", "api", "web", "report"}

// pure lists the packages that do no I/O, with what they must not import.
var (
	pure      = []string{"apikey", "event", "policy", "rotation"}
	forbidden = []string{"net", "net/http", "os", "os/exec", "database/sql", "io/fs", "syscall"}
)

// revealers lists the packages that may take the bytes out of a secret.Value, with the reason.
var revealers = map[string]string{
	"secret":                     "checks the format",
	"secret/secrettest":          "looks for leaks",
	"custody":                    "seals",
	"httpx":                      "sets the header",
	"provider":                   "compares a hint",
	"location":                   "removes values from texts",
	"location/locationtest":      "test",
	"location/memory":            "test",
	"location/envfile":           "the place",
	"location/awssecretsmanager": "the place",
	"location/kubernetes":        "the place",
	"location/docker":            "the place",
	"config":                     "hands a value to an owner's test, and reads the URL of a database",
	"consumer":                   "sets a header that was given by reference",
	"location/exec":              "the place",
	"scan/run":                   "shows the prefix and four characters when a person asks for the hint",
	"gateway":                    "sets the header",
	"gateway/identity":           "signs its tokens",
	"keyring":                    "sets the header",
	"keyring/internal/place":     "hands a value over to a program's own keyring",
	"handover":                   "seals a value to the reader it is released to",
	"keysource/vault":            "sets the header with Vault's own token",
	"cli":                        "prints a new gateway token to the one who asked for it",
	"demo":                       "plays the person at the Console and the applications",
}
