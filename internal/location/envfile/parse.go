package envfile

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// Format is the language of the file. Values of the alphabet of keys are written alike in all of them; they differ in what may
// surround an assignment.
type Format string

// The formats.
const (
	Auto        Format = "auto"
	Dotenv      Format = "dotenv"      // .env, docker --env-file
	Shell       Format = "shell"       // .profile, .bashrc, anything that sh sources
	Systemd     Format = "systemd"     // EnvironmentFile=, /etc/default
	Environment Format = "environment" // /etc/environment, read by PAM
	Value       Format = "value"       // the value alone, as a program reads it from a file or a mounted secret; never guessed
)

// guess gives the format that a file of this path usually has.
func guess(path string) Format {
	dir, base := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, base = path[:i], path[i+1:]
	}
	switch base {
	case ".profile", ".bashrc", ".bash_profile", ".bash_login", ".zshrc", ".zshenv", ".zprofile", ".kshrc", "profile":
		return Shell
	}
	switch {
	case path == "/etc/environment":
		return Environment
	case dir == "/etc/default", dir == "/etc/sysconfig":
		return Systemd
	case strings.HasSuffix(base, ".sh"), strings.HasSuffix(base, ".bash"), strings.HasSuffix(base, ".zsh"):
		return Shell
	}
	return Dotenv
}

// setting is one place in the file where the variable is set, in whatever way.
type setting struct {
	line int // counted from 1
	at   int // where the statement begins
	// start and end bound the value with its quotes.
	start, end int
	quote      byte
	value      []byte
	// problem says why it cannot be told what the variable is here; line and at alone are valid then.
	problem string
}

// document is what was understood of a file for one variable.
type document struct {
	// last is the setting that decides, or nil.
	last *setting
	// count is the number of settings.
	count int
	// open says why nothing can be appended, or is empty.
	open string
	// exports is true when the last assignment of any variable was exported.
	exports bool
}

// parser walks over a file statement by statement. It must never mistake the inside of a quotation, a here-document or a
// conditional for a plain assignment: what it is unsure of becomes a problem.
type parser struct {
	b       []byte
	pos     int
	format  Format
	name    string
	mention *regexp.Regexp
	depth   int // of if, case, loops and braces
	parens  int
	torn    bool // a quotation was left open, and programs disagree on where it ends
	doc     document
}

// parse finds the variable in the text of a file.
func parse(text []byte, format Format, name string) document {
	if format == Value {
		return alone(text)
	}
	q := regexp.QuoteMeta(name)
	p := &parser{b: text, format: format, name: name,
		mention: regexp.MustCompile(`(^|[^A-Za-z0-9_$])` + q + `(\[[^\]]*\])?[ \t]*\+?=|(^|[^A-Za-z0-9_])(unset|read|local|declare|typeset|readonly|getopts|printf|mapfile)([^A-Za-z0-9_].*)?[^A-Za-z0-9_$]` + q + `($|[^A-Za-z0-9_])`)}
	if format == Dotenv && bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		p.pos = 3
	}
	for p.pos < len(p.b) {
		p.statement()
	}
	if p.depth != 0 || p.parens != 0 {
		p.refuseAppend("a block is open at its end")
	}
	if n := len(text); n > 0 && text[n-1] == '\\' {
		p.refuseAppend("it ends with a backslash")
	}
	if last := p.doc.last; last != nil {
		last.line = 1 + bytes.Count(text[:last.at], []byte("\n"))
	}
	return p.doc
}

// alone takes a whole text as the value, but for the end of its line.
func alone(text []byte) document {
	value := bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	switch {
	case len(value) == 0:
		return document{}
	case !plain(value) || bytes.IndexByte(bytes.TrimRight(value, "="), '=') >= 0: // NAME=value is another format
		return document{last: &setting{line: 1, problem: "the file holds more than a value alone"}, count: 1}
	}
	return document{last: &setting{line: 1, end: len(value), value: value}, count: 1}
}

func (p *parser) refuseAppend(why string) {
	if p.doc.open == "" {
		p.doc.open = why
	}
}

func (p *parser) set(s setting) {
	p.doc.count++
	p.doc.last = &s
}

func (p *parser) unclear(pos int, why string) {
	p.set(setting{at: pos, problem: why})
}

func (p *parser) blanks() {
	for p.pos < len(p.b) && (p.b[p.pos] == ' ' || p.b[p.pos] == '\t') {
		p.pos++
	}
}

// eol gives the index of the next line feed, or of the end.
func (p *parser) eol(from int) int {
	if i := bytes.IndexByte(p.b[from:], '\n'); i >= 0 {
		return from + i
	}
	return len(p.b)
}

// nextLine moves behind the line end at or after pos.
func (p *parser) nextLine(from int) { p.pos = min(p.eol(from)+1, len(p.b)) }

func (p *parser) statement() {
	p.blanks()
	begin := p.pos
	if begin == len(p.b) {
		return
	}
	switch c := p.b[begin]; {
	case c == '\n':
		p.pos++
		return
	case c == '#' || c == ';' && p.format == Systemd:
		end := p.eol(begin)
		if p.format == Systemd && bytes.HasSuffix(bytes.TrimRight(p.b[begin:end], "\r"), []byte(`\`)) {
			// Versions of systemd disagree on whether the comment goes on.
			p.suspect(begin, min(p.eol(min(end+1, len(p.b))), len(p.b)), "it follows a comment that ends with a backslash")
			if end == len(p.b)-1 || end == len(p.b) {
				p.refuseAppend("it ends with a comment that ends with a backslash")
			}
			p.nextLine(min(end+1, len(p.b)))
			return
		}
		p.nextLine(begin)
		return
	}
	exported := false
	if rest := p.b[p.pos:]; p.format != Systemd && bytes.HasPrefix(rest, []byte("export")) && len(rest) > 6 && (rest[6] == ' ' || rest[6] == '\t') {
		exported = true
		p.pos += 6
		p.blanks()
	}
	nameAt := p.pos
	for p.pos < len(p.b) && nameByte(p.b[p.pos]) {
		p.pos++
	}
	name := string(p.b[nameAt:p.pos])
	if p.format == Dotenv {
		p.blanks()
	}
	if name == "" || p.pos == len(p.b) || p.b[p.pos] != '=' {
		p.pos = begin
		p.rest(begin)
		return
	}
	p.pos++
	p.doc.exports = exported
	if p.format == Dotenv {
		p.blanks()
	}
	if name != p.name {
		p.rest(p.pos)
		return
	}
	p.own(begin)
}

func nameByte(c byte) bool {
	return c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}

// own reads an assignment to our variable whose value begins at pos.
func (p *parser) own(begin int) {
	s, why := p.value()
	if why == "" && (p.depth != 0 || p.parens != 0) {
		why = "it is set inside a block, which may or may not run"
	}
	if why == "" && p.torn {
		why = "a quotation before it is left open"
	}
	if why != "" {
		p.unclear(begin, why)
		p.rest(p.pos)
		return
	}
	s.at = begin
	p.set(s)
	if p.format == Shell && s.end < len(p.b) && p.b[s.end] == ';' {
		p.pos = s.end + 1
		p.rest(p.pos)
		return
	}
	p.nextLine(s.end)
}

// value understands the value at pos and what follows it on its line, or says why it does not. It does not move.
func (p *parser) value() (setting, string) {
	start, end := p.pos, p.eol(p.pos)
	line := p.b[start:end]
	if cr := bytes.TrimRight(line, "\r"); len(cr) != len(line) {
		if p.format == Shell {
			return setting{}, "its line ends with a carriage return, which a shell takes as part of the value"
		}
		line = cr
	}
	if bytes.ContainsAny(line, "\r\x00") {
		return setting{}, "its line holds control characters"
	}
	s := setting{start: start}
	var after []byte
	if len(line) > 0 && (line[0] == '\'' || line[0] == '"') {
		s.quote = line[0]
		n := bytes.IndexByte(line[1:], s.quote)
		if n < 0 {
			return setting{}, "its quotation does not end on its line"
		}
		s.value, after = line[1:n+1], line[n+2:]
		if bytes.ContainsRune(s.value, '\\') || s.quote == '"' && bytes.ContainsAny(s.value, "$`") {
			return setting{}, "its quotation holds escapes or expansions"
		}
		s.end = start + n + 2
	} else {
		var n int
		switch p.format {
		case Shell:
			n = indexAny(line, " \t;")
		case Dotenv:
			n = indexAny(line, " \t")
		default:
			n = len(bytes.TrimRight(line, " \t"))
		}
		s.value, after = line[:n], line[n:]
		s.end = start + n
		if bytes.ContainsAny(s.value, "'\"\\$`#&|<>(){}*?[]!~") {
			return setting{}, "it holds characters that programs read differently"
		}
	}
	tail := bytes.TrimLeft(after, " \t")
	switch {
	case len(tail) == 0:
		return s, ""
	case tail[0] == '#' && len(tail) < len(after) && (p.format == Shell || p.format == Dotenv):
		return s, ""
	case after[0] == ';' && p.format == Shell:
		return s, ""
	}
	return setting{}, "something follows it on its line"
}

func indexAny(line []byte, chars string) int {
	if i := bytes.IndexAny(line, chars); i >= 0 {
		return i
	}
	return len(line)
}

// suspect notes a setting of unknown effect when the text between the offsets sets the variable in some way.
func (p *parser) suspect(from, to int, why string) {
	if from < to && p.mention.Match(p.b[from:to]) {
		p.unclear(from, why)
	}
}

// rest skips the remainder of a statement that is not ours, and suspects it when it names our variable.
func (p *parser) rest(from int) {
	p.pos = from
	switch p.format {
	case Shell:
		p.shellRest(from)
	case Dotenv, Systemd:
		p.quotedRest(from)
	default:
		end := p.eol(from)
		p.suspect(from, end, "it is set in an unfamiliar way")
		p.nextLine(from)
	}
}

// quotedRest skips a value that may be quoted over several lines, or continued by backslashes.
func (p *parser) quotedRest(from int) {
	end := p.eol(from)
	if from < len(p.b) && (p.b[from] == '"' || p.b[from] == '\'') {
		q := p.b[from]
		j := from + 1
		for j < len(p.b) && p.b[j] != q {
			if p.b[j] == '\\' && q == '"' {
				j++
			}
			j++
		}
		switch {
		case j < len(p.b):
			end = p.eol(j)
		case p.format == Systemd:
			p.refuseAppend("a quotation is open at its end")
			end = len(p.b)
		default:
			p.refuseAppend("a quotation is open at its end")
			p.torn = true
		}
	}
	for p.format == Systemd && end > from && end < len(p.b) && p.b[end-1] == '\\' {
		end = p.eol(end + 1)
	}
	p.suspect(from, end, "it is set in an unfamiliar way")
	p.pos = min(end+1, len(p.b))
}

// shellRest skips to the end of a shell command line, over quotations, continued lines and here-documents, and counts blocks.
func (p *parser) shellRest(from int) {
	var heredocs []heredoc
	i, wordAt, command := from, from, true
	code := from // start of the text to suspect; comments are left out
	endWord := func() {
		if wordAt < i {
			command = p.word(string(p.b[wordAt:i]), command)
		}
	}
	for i < len(p.b) {
		c := p.b[i]
		switch {
		case c == '\\':
			i += 2
			continue
		case c == '\'' || c == '"':
			j := i + 1
			ansi := c == '\'' && i > from && p.b[i-1] == '$'
			for j < len(p.b) && p.b[j] != c {
				if p.b[j] == '\\' && (c == '"' || ansi) {
					j++
				}
				j++
			}
			if j >= len(p.b) {
				p.refuseAppend("a quotation is open at its end")
			}
			i = min(j+1, len(p.b))
			continue
		case c == '#' && i == wordAt:
			endWord()
			p.suspect(code, i, "it is set in an unfamiliar way")
			i = p.eol(i)
			code, wordAt = i, i
			continue
		case c == '<' && bytes.HasPrefix(p.b[i:], []byte("<<")) && !bytes.HasPrefix(p.b[i:], []byte("<<<")) && (i == 0 || p.b[i-1] != '<'):
			if h, n := readHeredoc(p.b[i:]); n > 0 {
				heredocs = append(heredocs, h)
				i += n
				continue
			}
		case c == '(':
			endWord()
			p.parens++
			command, wordAt = true, i+1
		case c == ')':
			endWord()
			if p.parens > 0 {
				p.parens--
			}
			wordAt = i + 1
		case c == ' ' || c == '\t' || c == '\r':
			endWord()
			wordAt = i + 1
		case c == ';' || c == '&' || c == '|':
			endWord()
			command, wordAt = true, i+1
		case c == '\n':
			endWord()
			p.suspect(code, i, "it is set in an unfamiliar way")
			p.pos = i + 1
			for _, h := range heredocs {
				p.skipHeredoc(h)
			}
			return
		}
		i++
	}
	i = min(i, len(p.b))
	endWord()
	p.suspect(min(code, len(p.b)), len(p.b), "it is set in an unfamiliar way")
	if len(heredocs) > 0 {
		p.refuseAppend("a here-document is open at its end")
	}
	p.pos = len(p.b)
}

// word counts blocks and tells whether a command may follow.
func (p *parser) word(w string, command bool) bool {
	switch w {
	case "{":
		p.depth++
		return true
	case "if", "case", "for", "while", "until", "select":
		if command {
			p.depth++
		}
		return command && (w == "if" || w == "while" || w == "until")
	case "fi", "esac", "done", "}":
		if command && p.depth > 0 {
			p.depth--
		}
		return false
	case "then", "do", "else", "elif", "!", "time":
		return command
	}
	return false
}

type heredoc struct {
	end  string
	tabs bool
}

var heredocStart = regexp.MustCompile(`^<<(-?)[ \t]*(?:'([^'\n]+)'|"([^"\n]+)"|\\?([A-Za-z_][A-Za-z0-9_]*))`)

func readHeredoc(b []byte) (heredoc, int) {
	m := heredocStart.FindSubmatch(b)
	if m == nil {
		return heredoc{}, 0
	}
	return heredoc{end: string(m[2]) + string(m[3]) + string(m[4]), tabs: len(m[1]) > 0}, len(m[0])
}

func (p *parser) skipHeredoc(h heredoc) {
	for p.pos < len(p.b) {
		end := p.eol(p.pos)
		line := string(p.b[p.pos:end])
		if h.tabs {
			line = strings.TrimLeft(line, "\t")
		}
		p.pos = min(end+1, len(p.b))
		if line == h.end {
			return
		}
	}
	p.refuseAppend("a here-document is open at its end")
}

// problem is an edit or a reading that is refused since its effect is not certain. It never holds a value.
type problem struct {
	line int
	why  string
}

func (e *problem) Error() string {
	if e.line == 0 {
		return e.why
	}
	return fmt.Sprintf("line %d: %s", e.line, e.why)
}

// edit gives the text with the variable set to value, and all else as it was. The error is a *problem.
func edit(text []byte, format Format, name string, value []byte) ([]byte, error) {
	doc := parse(text, format, name)
	var out []byte
	if s := doc.last; s != nil {
		if s.problem != "" {
			return nil, &problem{s.line, s.problem}
		}
		out = make([]byte, 0, len(text)+len(value)+2)
		out = append(out, text[:s.start]...)
		if s.quote != 0 {
			out = append(out, s.quote)
		}
		out = append(out, value...)
		if s.quote != 0 {
			out = append(out, s.quote)
		}
		out = append(out, text[s.end:]...)
	} else if format == Value {
		end := text // a bare end of line
		if len(end) == 0 {
			end = []byte("\n")
		}
		out = append(append(out, value...), end...)
	} else {
		if doc.open != "" {
			return nil, &problem{0, doc.open}
		}
		eol := "\n"
		if i := bytes.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
			if eol = "\r\n"; format == Shell {
				return nil, &problem{1, "the lines end with a carriage return, which a shell takes as part of a value"}
			}
		}
		line := name + "="
		if format == Shell || doc.exports && format == Dotenv {
			line = "export " + line
		}
		out = make([]byte, 0, len(text)+len(line)+len(value)+4)
		out = append(out, text...)
		ended := len(text) == 0 || text[len(text)-1] == '\n'
		if !ended {
			out = append(out, eol...)
		}
		out = append(append(out, line...), value...)
		if ended {
			out = append(out, eol...)
		}
	}
	// What was written must be read back, whatever the file looks like.
	check := parse(out, format, name)
	if check.last == nil || check.last.problem != "" || !bytes.Equal(check.last.value, value) {
		clear(out)
		return nil, &problem{0, "the result could not be read back"}
	}
	return out, nil
}

// plain reports whether all formats read b, unquoted or quoted, as itself.
func plain(b []byte) bool {
	for _, c := range b {
		if !nameByte(c) && !strings.ContainsRune("-./:+=@%,", rune(c)) {
			return false
		}
	}
	return len(b) > 0
}
