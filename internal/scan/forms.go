package scan

// form is the way in which an anchor is written.
type form uint8

const (
	formPlain form = iota
)

// newNeedles writes every anchor of every family in every form.
func newNeedles(families []Family) *needles {
	n := &needles{}
	for i, f := range families {
		for _, a := range f.anchors() {
			n.add(needle{atoms: literal(a), form: formPlain, family: i})
		}
	}
	return n
}

// literal gives the atoms of a text.
func literal(s string) []string {
	atoms := make([]string, len(s))
	for i := range len(s) {
		atoms[i] = s[i : i+1]
	}
	return atoms
}
