package scan

// joints says which interruptions of a value a reader passes over.
type joints uint8

const (
	literals joints = 1 << iota // two string literals that the language puts together
	breaks                      // line ends, as they are or escaped, with continuation marks, indentation and comment signs
	marks                       // tags, terminal colours, soft hyphens and other invisible characters
)

// longestJoint bounds what stands between two parts of a value.
const longestJoint = 200

// joint gives the length of the interruption at the start of b, or 0.
func joint(b []byte, j joints) int {
	b = b[:min(len(b), longestJoint)]
	if j&literals != 0 {
		if n := literalJoint(b); n > 0 {
			return n
		}
	}
	if j&breaks != 0 {
		if n := breakJoint(b); n > 0 {
			return n
		}
	}
	if j&marks != 0 {
		return markJoint(b)
	}
	return 0
}

// literalJoint matches: closing quote, blanks, perhaps an operator, blanks, perhaps a prefix letter, opening quote.
func literalJoint(b []byte) int {
	i := skipSlashes(b, 0)
	if i == 0 {
		// An escaped line end may stand before the closing quote.
		if n := escapedBreak(b); n > 0 {
			i = skipSlashes(b, n)
		}
	} else if n := escapedBreak(b); n > 0 {
		i = n
	}
	if i >= len(b) || !quote(b[i]) {
		return 0
	}
	closing := b[i]
	i = blanks(b, i+1)
	start := i
	for i < len(b) && i < start+3 && operator(b[i]) {
		i++
	}
	i = blanks(b, i)
	if i < len(b) && prefixLetter(b[i]) {
		i++
	}
	i = skipSlashes(b, i)
	if i >= len(b) || !quote(b[i]) {
		return 0
	}
	// Two literals side by side without an operator may be of different sorts in a shell; an empty string is none.
	if start == i && b[i] != closing && closing == '`' {
		return 0
	}
	return i + 1
}

// breakJoint matches a line end with what may surround it in a value that goes on below.
func breakJoint(b []byte) int {
	i := 0
	if i < len(b) && (b[i] == '\\' || b[i] == '=' || b[i] == '^' || b[i] == '`') && lineEnd(b[i+1:]) > 0 {
		i++
	}
	n := lineEnd(b[i:])
	if n == 0 {
		return escapedBreak(b)
	}
	i = indent(b, i+n)
	for _, sign := range []string{"// ", "# ", "> ", "* ", "| ", "-- ", ";; "} {
		if len(b) >= i+len(sign) && string(b[i:i+len(sign)]) == sign {
			return indent(b, i+len(sign))
		}
	}
	return i
}

// escapedBreak matches \n and \r\n written with one or more backslashes.
func escapedBreak(b []byte) int {
	i := skipSlashes(b, 0)
	if i == 0 || i >= len(b) {
		return 0
	}
	if b[i] == 'r' {
		k := skipSlashes(b, i+1)
		if k == i+1 || k >= len(b) {
			return 0
		}
		i = k
	}
	if b[i] != 'n' {
		return 0
	}
	return indent(b, i+1)
}

// markJoint matches a tag, a terminal's colour, or invisible characters.
func markJoint(b []byte) int {
	switch {
	case len(b) < 2:
		return 0
	case b[0] == '<' && (alnum(b[1]) || b[1] == '/'):
		for i := 1; i < len(b) && i < 160 && b[i] != '\n'; i++ {
			if b[i] == '>' {
				return i + 1
			}
		}
	case b[0] == 0x1b && b[1] == '[':
		return colour(b, 2)
	case len(b) > 7 && b[0] == '\\' && string(b[1:7]) == "u001b[":
		return colour(b, 7)
	case b[0] == 0xc2 && b[1] == 0xad:
		return 2
	case len(b) > 2 && b[0] == 0xe2 && b[1] == 0x80 && (b[2] >= 0x8b && b[2] <= 0x8f), len(b) > 2 && b[0] == 0xe2 && b[1] == 0x81 && b[2] == 0xa0,
		len(b) > 2 && b[0] == 0xef && b[1] == 0xbb && b[2] == 0xbf:
		return 3
	case string(b[:min(len(b), 5)]) == "&shy;":
		return 5
	}
	return 0
}

func colour(b []byte, i int) int {
	for ; i < len(b) && i < 24; i++ {
		if b[i] >= '@' && b[i] <= '~' {
			return i + 1
		}
		if b[i] > '?' || b[i] < ' ' {
			return 0
		}
	}
	return 0
}

func lineEnd(b []byte) int {
	switch {
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	case len(b) > 0 && (b[0] == '\n' || b[0] == '\r'):
		return 1
	}
	return 0
}

func quote(c byte) bool { return c == '"' || c == '\'' || c == '`' }

func operator(c byte) bool {
	switch c {
	case '+', '.', '&', ',', '<', '>', '~', '|', '^':
		return true
	}
	return false
}

func prefixLetter(c byte) bool {
	switch c {
	case 'f', 'r', 'b', 'u', 'L', '@', '$':
		return true
	}
	return false
}

func skipSlashes(b []byte, i int) int {
	for i < len(b) && b[i] == '\\' {
		i++
	}
	return i
}

// blanks passes over white space, continuation marks before a line end, and escaped line ends.
func blanks(b []byte, i int) int {
	for i < len(b) {
		switch {
		case b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r':
			i++
		case (b[i] == '\\' || b[i] == '_') && lineEnd(b[i+1:]) > 0:
			i++
		case b[i] == '\\' && escapedBreak(b[i:]) > 0:
			i += escapedBreak(b[i:])
		default:
			return i
		}
	}
	return i
}

func indent(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	return i
}
