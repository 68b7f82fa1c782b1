package audit

import (
	"crypto/ed25519"
	"fmt"
	"iter"

	"github.com/keywright/keywright/internal/fault"
)

// NotProtected is said of entries that no checkpoint outside vouches for.
const NotProtected = "not protected against the owner of this host"

// Verifier checks the record of one store.
type Verifier struct {
	Store string
	// Keys are the public keys whose checkpoints count.
	Keys []ed25519.PublicKey
	// Checkpoints are those kept beside the record: they find changes by anyone who cannot sign and cannot delete them.
	Checkpoints []Checkpoint
	// Witnessed are those read from witnesses: they also find changes by the owner of the host. Those of other stores are
	// passed over.
	Witnessed []Checkpoint
}

// Problem is one finding about the record.
type Problem struct {
	Seq  int64  `json:"seq"` // the entry it is about, or 0
	Text string `json:"text"`
}

// Report is what a verification found out.
type Report struct {
	Store   string `json:"store"`
	Entries int64  `json:"entries"` // read
	Last    int64  `json:"last"`    // number of the last one
	Head    Hash   `json:"head"`    // its hash
	// Problems holds the first hundred, in the order of reading; More counts the rest.
	Problems []Problem `json:"problems,omitempty"`
	More     int       `json:"more,omitempty"`
	// Inside and Outside are the latest checkpoints that agree with a whole chain up to them; nil means none.
	Inside  *Checkpoint `json:"inside,omitempty"`
	Outside *Checkpoint `json:"outside,omitempty"`
	// KeysFromFile means that the public keys came out of the export itself, and prove only that it is whole.
	KeysFromFile bool `json:"keys_from_file,omitempty"`
}

const maxProblems = 100

// Err is nil for a record without problems, and otherwise an error of kind Corrupt that names the first.
func (r Report) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	more := ""
	if n := len(r.Problems) + r.More - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return fault.New(fault.Corrupt, "verify audit: "+r.Problems[0].Text+more, fault.Hint("compare with an export or backup from before; keep this one as it is"))
}

// Statement says in sentences what the record can be trusted for. It never claims more than was checked.
func (r Report) Statement() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if n := len(r.Problems) + r.More; n > 0 {
		say("%d problems in %d entries of store %s", n, r.Entries, r.Store)
	} else {
		say("%d entries of store %s, the chain is whole", r.Entries, r.Store)
	}
	if r.KeysFromFile {
		say("the public keys came from the file itself: compare them with those you were given")
	}
	if r.Outside != nil {
		say("vouched for up to entry %d by a witnessed checkpoint of %s", r.Outside.Seq, formatTime(r.Outside.At))
	}
	if r.Inside != nil && (r.Outside == nil || r.Inside.Seq > r.Outside.Seq) {
		say("signed up to entry %d by a checkpoint of %s that no witness holds", r.Inside.Seq, formatTime(r.Inside.At))
	}
	switch {
	case r.Outside == nil:
		say("no witness: %s", NotProtected)
	case r.Last > r.Outside.Seq:
		say("entries behind it, %d of them after entry %d: %s; that some were cut off cannot be seen", r.Last-r.Outside.Seq, r.Outside.Seq, NotProtected)
	default:
		say("that entries were cut off behind entry %d cannot be seen", r.Outside.Seq)
	}
	return out
}

// Verify reads the record from its first entry on and compares it with the checkpoints. It finds every entry that was
// changed, left out, added, moved or repeated up to the latest checkpoint, and every break of the chain behind it. A rewrite or
// a cut behind the latest checkpoint cannot be seen. Errors that entries yields count as findings when they are Corrupt, and
// end the verification otherwise. The error is that one, or Report.Err; Invalid without a store or a key. The Report holds in
// every case what was found so far.
func (v Verifier) Verify(entries iter.Seq2[Entry, error]) (Report, error) {
	w, err := v.walk()
	if err != nil {
		return Report{Store: v.Store}, err
	}
	for e, err := range entries {
		switch {
		case err == nil:
			w.entry(e)
		case fault.Is(err, fault.Corrupt):
			w.unreadable(err)
		default:
			return w.finish(), fault.In(err, "verify audit")
		}
	}
	r := w.finish()
	return r, r.Err()
}

// walker checks a record entry by entry.
type walker struct {
	report Report
	keys   map[string]ed25519.PublicKey
	marks  map[int64][]mark // checkpoints that are still ahead
	prev   Hash             // what the next entry must name
	blind  bool             // the entry before could not be read, so that prev is not known
	broken bool             // the chain is not whole
}

type mark struct {
	Checkpoint
	outside bool
}

func (v Verifier) walk() (*walker, error) {
	if v.Store == "" || len(v.Keys) == 0 {
		return nil, fault.New(fault.Invalid, "verify audit: a store id and at least one public key are needed", fault.Hint("give the public key that was exported on the host of the record"))
	}
	w := &walker{report: Report{Store: v.Store}, keys: map[string]ed25519.PublicKey{}, marks: map[int64][]mark{}, prev: Genesis(v.Store)}
	for _, k := range v.Keys {
		w.keys[KeyID(k)] = k
	}
	for _, c := range v.Checkpoints {
		if w.genuine(c) {
			w.marks[c.Seq] = append(w.marks[c.Seq], mark{c, false})
		}
	}
	for _, c := range v.Witnessed {
		if c.Store == v.Store && w.genuine(c) {
			w.marks[c.Seq] = append(w.marks[c.Seq], mark{c, true})
		}
	}
	return w, nil
}

func (w *walker) problem(seq int64, format string, args ...any) {
	if len(w.report.Problems) >= maxProblems {
		w.report.More++
		return
	}
	w.report.Problems = append(w.report.Problems, Problem{seq, fmt.Sprintf(format, args...)})
}

func (w *walker) genuine(c Checkpoint) bool {
	k, ok := w.keys[c.KeyID]
	switch {
	case !ok:
		w.problem(c.Seq, "a checkpoint of entry %d was signed by the unknown key %q", c.Seq, clean(c.KeyID, maxName))
	case c.Store != w.report.Store:
		w.problem(c.Seq, "a checkpoint of entry %d belongs to another store", c.Seq)
	case !c.Verify(k):
		w.problem(c.Seq, "a checkpoint of entry %d has a wrong signature", c.Seq)
	case c.Seq <= 0:
		w.problem(c.Seq, "a checkpoint names entry %d", c.Seq)
	default:
		return true
	}
	return false
}

func (w *walker) entry(e Entry) {
	r := &w.report
	r.Entries++
	want := r.Last + 1
	breaks := func(format string, args ...any) {
		w.broken = true
		w.problem(e.Seq, format, args...)
	}
	if e.Store != r.Store {
		breaks("entry %d belongs to another store", e.Seq)
	}
	switch {
	case e.Seq == want:
	case e.Seq > want && want == e.Seq-1:
		breaks("entry %d is missing", want)
	case e.Seq > want:
		breaks("entries %d to %d are missing", want, e.Seq-1)
	default:
		breaks("entry %d stands where %d is due", e.Seq, want)
	}
	if !w.blind && e.Seq == want && e.Prev != w.prev {
		breaks("entry %d does not follow from the one before it", e.Seq)
	}
	if e.Sum() != e.Hash {
		breaks("entry %d was changed", e.Seq)
	}
	// Going on from the entry as it is keeps one change from being reported at every later entry.
	w.blind, w.prev = false, e.Hash
	r.Last, r.Head = max(e.Seq, r.Last), e.Hash
	for _, m := range w.marks[e.Seq] {
		w.mark(e, m)
	}
	delete(w.marks, e.Seq)
}

func (w *walker) mark(e Entry, m mark) {
	if m.Hash != e.Hash {
		w.broken = true
		w.problem(e.Seq, "entry %d is not the one that a checkpoint of %s signed", e.Seq, formatTime(m.At))
		return
	}
	if w.broken {
		return
	}
	if c := m.Checkpoint; m.outside {
		w.report.Outside = &c
	} else {
		w.report.Inside = &c
	}
}

func (w *walker) unreadable(err error) {
	r := &w.report
	r.Entries++
	r.Last++
	w.broken, w.blind = true, true
	w.problem(r.Last, "entry %d cannot be read: %v", r.Last, err)
}

func (w *walker) finish() Report {
	last := int64(0)
	for seq := range w.marks {
		last = max(last, seq)
	}
	if last > w.report.Last {
		w.problem(last, "the record ends with entry %d, and a checkpoint signed entry %d: the end was cut off", w.report.Last, last)
	}
	return w.report
}
