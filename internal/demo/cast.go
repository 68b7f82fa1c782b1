package demo

import (
	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/simulator"
)

// Cast is who plays: the keys of the demo, as a person made them in the Console.
type Cast struct {
	Organization, Workspace string
	Admin                   secret.Value
	Primary, Secondary      Slot
}

// Slot is a key with the value that is deployed and the one that a person made to follow it.
type Slot struct {
	Name     string
	Old, New secret.Value
}

// NewCast makes the keys at a new simulator. With the same seed it makes the same values as any other process, so a test knows what to look for.
func NewCast(sim *simulator.Simulator) (*Cast, error) {
	c := &Cast{Organization: sim.Organization(), Workspace: sim.AddWorkspace("Production").ID, Primary: Slot{Name: "prod-primary"}, Secondary: Slot{Name: "prod-secondary"}}
	for _, s := range []*Slot{&c.Primary, &c.Secondary} {
		for _, v := range []*secret.Value{&s.Old, &s.New} {
			name := apikey.ConsoleName("demo", apikey.Name(s.Name), sim.Now())
			if v == &s.Old {
				name = apikey.ConsoleName("demo", apikey.Name(s.Name), sim.Now().AddDate(0, 0, -83))
			}
			_, value, err := sim.CreateKey(simulator.CreateKey{Name: name, Workspace: c.Workspace})
			if err != nil {
				return nil, fault.Wrap(fault.Unknown, err, "make keys")
			}
			*v = secret.New([]byte(value))
		}
	}
	c.Admin = secret.New([]byte(sim.AdminKey()))
	return c, nil
}

// Values gives every value.
func (c *Cast) Values() []secret.Value {
	return []secret.Value{c.Admin, c.Primary.Old, c.Primary.New, c.Secondary.Old, c.Secondary.New}
}

// destroy overwrites the values. A nil cast has none.
func (c *Cast) destroy() {
	if c == nil {
		return
	}
	for _, v := range c.Values() {
		v.Destroy()
	}
}
