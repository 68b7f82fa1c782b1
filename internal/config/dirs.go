package config

import (
	"os"
	"path/filepath"

	"github.com/keywright/keywright/internal/fault"
)

// Dirs are Keywright's own directories, where the configuration names no others.
type Dirs struct {
	// Config holds the user's keywright.yaml and the master key: $KEYWRIGHT_CONFIG_DIR, else $XDG_CONFIG_HOME/keywright, as root
	// /etc/keywright.
	Config string
	// State holds a directory per organization: $XDG_STATE_HOME/keywright, as root /var/lib/keywright.
	State string
}

// UserDirs gives the directories of the user who runs Keywright. It makes none. The error is Invalid when there is no home directory.
func UserDirs() (Dirs, error) { return dirsOf(os.Geteuid(), os.Getenv) }

// UserDir gives the directory of the user for the configuration and the master key. It does not make it.
func UserDir() (string, error) {
	d, err := UserDirs()
	return d.Config, err
}

func dirsOf(uid int, getenv func(string) string) (Dirs, error) {
	d, err := ordinary(uid, getenv)
	if named := getenv("KEYWRIGHT_CONFIG_DIR"); filepath.IsAbs(named) {
		d.Config = named
	}
	return d, err
}

func ordinary(uid int, getenv func(string) string) (Dirs, error) {
	if uid == 0 {
		return Dirs{Config: "/etc/keywright", State: "/var/lib/keywright"}, nil
	}
	home := getenv("HOME")
	dir := func(variable, under string) (string, error) {
		if d := getenv(variable); filepath.IsAbs(d) { // others are to be ignored, says the base directory specification
			return filepath.Join(d, "keywright"), nil
		}
		if !filepath.IsAbs(home) {
			return "", fault.New(fault.Invalid, "find directories: HOME is not set", fault.Hint("set HOME, or %s", variable))
		}
		return filepath.Join(home, under, "keywright"), nil
	}
	conf, err := dir("XDG_CONFIG_HOME", ".config")
	if err != nil {
		return Dirs{}, err
	}
	state, err := dir("XDG_STATE_HOME", ".local/state")
	if err != nil {
		return Dirs{}, err
	}
	return Dirs{Config: conf, State: state}, nil
}

// FileName is the name of a configuration file.
const FileName = "keywright.yaml"

// Find gives the file that a command uses when none is named: keywright.yaml in dir, else the user's. The scanner never asks this,
// since what it looks at must not configure it. The error is NotFound when there is neither.
func Find(dir string, dirs Dirs) (string, error) {
	for _, p := range []string{filepath.Join(dir, FileName), filepath.Join(dirs.Config, FileName)} {
		if _, err := os.Lstat(p); err == nil {
			return p, nil
		}
	}
	return "", fault.New(fault.NotFound, "find configuration: there is no "+FileName+" here, and none in "+dirs.Config, fault.Hint("keywright init makes one; --config names one"))
}
