package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// An export is a text of lines: a header with store, time and public keys; the entries, each checkpoint behind the entry it
// signed; and an end with the number and the SHA-256 of all lines before it, signed.

type exportHeader struct {
	At     time.Time `json:"at"`
	Format string    `json:"format"`
	Keys   [][]byte  `json:"keys"`
	Store  string    `json:"store"`
}

type exportEnd struct {
	KeyID     string `json:"key"`
	Lines     int64  `json:"lines"`
	SHA256    Hash   `json:"sha256"`
	Signature []byte `json:"signature"`
}

const (
	exportFormat    = "keywright-audit-export-1"
	domainExport    = exportFormat + "\n"
	startHeader     = `{"export":`
	startEntry      = `{"event":`
	startCheckpoint = `{"checkpoint":`
	startEnd        = `{"end":`
)

func (h exportHeader) line() []byte {
	b := appendString([]byte(startHeader+`{"at":`), formatTime(h.At))
	b = appendMember(b, "format", h.Format)
	b = append(b, `,"keys":[`...)
	for i, k := range h.Keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, base64.StdEncoding.EncodeToString(k))
	}
	b = append(b, ']')
	b = appendMember(b, "store", h.Store)
	return append(b, `}}`...)
}

func (e exportEnd) append(b []byte, signed bool) []byte {
	b = appendString(append(b, `{"key":`...), e.KeyID)
	b = fmt.Appendf(b, `,"lines":%d`, e.Lines)
	b = appendMember(b, "sha256", e.SHA256.String())
	if signed {
		b = appendMember(b, "signature", base64.StdEncoding.EncodeToString(e.Signature))
	}
	return append(b, '}')
}

func (e exportEnd) line() []byte { return append(e.append([]byte(startEnd), true), '}') }

// Export writes the whole record of v.Store to w in a form that VerifyExport, or anyone with docs/audit-format.md, can check
// without the store. s signs the end, and a checkpoint of the last entry unless v.Checkpoints has one. A record with problems
// is written as it is but without signed end, and the error is that of Verify; so is one that could not be read to its end.
func Export(w io.Writer, v Verifier, entries iter.Seq2[Entry, error], s *Signer, at time.Time) (Report, error) {
	if !slices.ContainsFunc(v.Keys, func(k ed25519.PublicKey) bool { return s.public.Equal(k) }) {
		v.Keys = append(slices.Clone(v.Keys), s.public)
	}
	walk, err := v.walk()
	if err != nil {
		return Report{Store: v.Store}, err
	}
	out := &lineWriter{w: bufio.NewWriter(w), sum: sha256.New()}
	header := exportHeader{At: at.UTC().Truncate(time.Microsecond), Format: exportFormat, Store: v.Store}
	for _, k := range v.Keys {
		header.Keys = append(header.Keys, k)
	}
	out.line(header.line())
	signed := map[int64][]Checkpoint{}
	for _, c := range v.Checkpoints {
		signed[c.Seq] = append(signed[c.Seq], c)
	}
	var last Entry
	for e, err := range entries {
		if err != nil {
			r := walk.finish()
			return r, errors.Join(fault.In(err, "export audit"), out.flush())
		}
		walk.entry(e)
		out.line(e.Line())
		for _, c := range signed[e.Seq] {
			out.checkpoint(c)
		}
		last = e
	}
	r := walk.finish()
	if err := r.Err(); err != nil {
		return r, errors.Join(err, out.flush())
	}
	if last.Seq > 0 && len(signed[last.Seq]) == 0 {
		c, err := s.Sign(last, at)
		if err != nil {
			return r, err
		}
		out.checkpoint(c)
	}
	end := exportEnd{KeyID: s.KeyID(), Lines: out.lines, SHA256: Hash(out.sum.Sum(nil))}
	end.Signature = s.sign(end.append([]byte(domainExport), false))
	out.line(end.line())
	return r, out.flush()
}

type lineWriter struct {
	w     *bufio.Writer
	sum   hash.Hash
	lines int64
}

func (l *lineWriter) line(b []byte) {
	b = append(b, '\n')
	l.sum.Write(b)
	_, _ = l.w.Write(b) // flush has the error
	l.lines++
}

func (l *lineWriter) checkpoint(c Checkpoint) {
	l.line(append(c.append([]byte(startCheckpoint), true), '}'))
}

func (l *lineWriter) flush() error {
	if err := l.w.Flush(); err != nil {
		return fault.Wrap(fault.Unavailable, err, "write export")
	}
	return nil
}

// VerifyExport checks what Export wrote. v.Keys are the keys to trust: without any, those in the file are used and the report
// says so. v.Store may be empty. v.Witnessed is compared too; v.Checkpoints is replaced by those in the file. Every change of
// the file, of a single byte too, is found by whoever was given the keys. Results as of Verify.
func VerifyExport(r io.Reader, v Verifier) (Report, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	sum := sha256.New()
	first, err := readLine(in)
	if errors.Is(err, io.EOF) {
		err = fault.New(fault.Corrupt, "it is empty", fault.Hint("give the file that keywright audit export wrote, unchanged"))
	}
	if err != nil {
		return Report{Store: v.Store}, fault.In(err, "read export")
	}
	header, keys, err := parseHeader(first)
	if err != nil {
		return Report{Store: v.Store}, err
	}
	if v.Store == "" {
		v.Store = header.Store
	}
	fromFile := len(v.Keys) == 0
	if fromFile {
		v.Keys = keys
	}
	v.Checkpoints = nil
	w, err := v.walk()
	if err != nil {
		return Report{Store: v.Store}, err
	}
	w.report.KeysFromFile = fromFile
	if header.Store != v.Store {
		w.broken = true
		w.problem(0, "the export is of store %q", clean(header.Store, maxName))
	}
	sum.Write(append(first, '\n'))
	var last Entry
	lines, ended := int64(1), false
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		lines++
		switch {
		case fault.Is(err, fault.Corrupt):
			w.problem(0, "line %d: %v", lines, err)
		case err != nil:
			return w.finish(), fault.In(err, "read export")
		case ended:
			w.problem(0, "line %d stands behind the end", lines)
		case bytes.HasPrefix(line, []byte(startEntry)):
			if e, err := ParseEntry(line); err != nil {
				w.unreadable(err)
				last = Entry{}
			} else {
				w.entry(e)
				last = e
			}
		case bytes.HasPrefix(line, []byte(startCheckpoint)):
			if c, err := parseCheckpointLine(line); err != nil {
				w.problem(0, "line %d: %v", lines, err)
			} else if w.genuine(c) {
				if c.Seq != last.Seq {
					w.problem(c.Seq, "line %d: the checkpoint does not stand behind its entry", lines)
				} else {
					w.mark(last, mark{c, false})
				}
			}
		case bytes.HasPrefix(line, []byte(startEnd)):
			ended = true
			w.end(line, lines-1, Hash(sum.Sum(nil)))
		default:
			w.problem(0, "line %d is of no known sort", lines)
		}
		sum.Write(append(line, '\n'))
	}
	if !ended {
		w.problem(0, "the signed end is missing: the export was cut off, or its record has problems")
	}
	report := w.finish()
	return report, report.Err()
}

func (w *walker) end(line []byte, lines int64, sum Hash) {
	var end struct {
		End exportEnd `json:"end"`
	}
	if err := decode(line, &end); err != nil || !bytes.Equal(end.End.line(), line) {
		w.problem(0, "the end is not in canonical form")
		return
	}
	e := end.End
	k, ok := w.keys[e.KeyID]
	switch {
	case !ok:
		w.problem(0, "the end was signed by the unknown key %q", clean(e.KeyID, maxName))
	case !ed25519.Verify(k, e.append([]byte(domainExport), false), e.Signature):
		w.problem(0, "the end has a wrong signature")
	case e.Lines != lines || e.SHA256 != sum:
		w.problem(0, "the lines are not those that were signed")
	}
}

func parseHeader(line []byte) (exportHeader, []ed25519.PublicKey, error) {
	var h struct {
		Export exportHeader `json:"export"`
	}
	if err := decode(line, &h); err != nil || h.Export.Format != exportFormat || !bytes.Equal(h.Export.line(), line) {
		return exportHeader{}, nil, fault.New(fault.Corrupt, "read export: the first line is no header of "+exportFormat, fault.Hint("give the file that keywright audit export wrote, unchanged"))
	}
	var keys []ed25519.PublicKey
	for _, k := range h.Export.Keys {
		if len(k) != ed25519.PublicKeySize {
			return exportHeader{}, nil, fault.New(fault.Corrupt, "read export: a public key of the wrong length")
		}
		keys = append(keys, k)
	}
	return h.Export, keys, nil
}

func parseCheckpointLine(line []byte) (Checkpoint, error) {
	inner, ok := bytes.CutSuffix(bytes.TrimPrefix(line, []byte(startCheckpoint)), []byte("}"))
	if !ok {
		return Checkpoint{}, fault.New(fault.Corrupt, "read checkpoint: cut off")
	}
	return ParseCheckpoint(inner)
}

// readLine gives the next line without its end. io.EOF stands for the end of the text; a last line without an end, and one
// that is too long (which is skipped), are Corrupt.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			long, line = true, nil
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) == 0 && !long:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, fault.New(fault.Corrupt, "the last line is cut off")
		case err != nil:
			return nil, fault.Wrap(fault.Unavailable, err, "read line")
		case long:
			return nil, fault.Newf(fault.Corrupt, "a line of more than %d bytes", maxLine)
		}
		return line[:len(line)-1], nil
	}
}

// ReadCheckpoints gives the checkpoints in a file that a witness kept, or in an export, for Verifier.Witnessed. Lines that are
// whole JSON objects of another sort are passed over in an export and Corrupt elsewhere; lines that are not whole are what a
// crash left of an append, and are passed over: leaving a checkpoint out can only weaken what a witness says. Signatures are
// checked by the Verifier.
func ReadCheckpoints(r io.Reader) ([]Checkpoint, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	var out []Checkpoint
	export := false
	for n := 1; ; n++ {
		line, err := readLine(in)
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case fault.Is(err, fault.Corrupt):
			continue
		case err != nil:
			return out, fault.In(err, "read checkpoints")
		}
		export = export || n == 1 && bytes.HasPrefix(line, []byte(startHeader))
		var c Checkpoint
		switch {
		case len(line) == 0 || !wholeObject(line):
			continue
		case bytes.HasPrefix(line, []byte(startCheckpoint)):
			c, err = parseCheckpointLine(line)
		case export:
			continue
		default:
			c, err = ParseCheckpoint(line)
		}
		if err != nil {
			return out, fault.In(err, fmt.Sprintf("read checkpoints: line %d", n))
		}
		out = append(out, c)
	}
}
