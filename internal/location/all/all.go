// Package all lists every kind of location that is built in. It decides nothing and opens nothing. The list and what each kind
// can do are generated from the folders beside it; app and cli call it.
package all

import "github.com/keywright/keywright/internal/location"

//go:generate go run ../../tools/genlocations
//go:generate go run ../../tools/genlocationdocs

// All gives every kind, in the order of their folders: a fresh slice.
func All() []location.Kind { return kinds() }

// Lookup gives the kind of that name.
func Lookup(name string) (location.Kind, bool) {
	for _, k := range kinds() {
		if k.Name == name {
			return k, true
		}
	}
	return location.Kind{}, false
}

// Degree says whether a kind has an ability.
type Degree string

// The degrees.
const (
	Never     Degree = ""
	Sometimes Degree = "by configuration"
	Always    Degree = "yes"
)

// Support says what a kind can do beyond Inspect and Put, as its interface guards state it. A configured location says by its
// Abilities what it can do itself.
type Support struct {
	Reads, Stages, Unstages, Restores, Removes, Reloads, Confirms, Probes, Checks, Manual Degree
}

// SupportOf gives what the kind of that name can do; an unknown name gives the zero Support.
func SupportOf(name string) Support { return supports()[name] }
