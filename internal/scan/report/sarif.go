package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/keywright/keywright/internal/scan"
)

const (
	sarifSchema = "https://json.schemastore.org/sarif-2.1.0.json"
	homepage    = "https://github.com/keywright/keywright"
	// mostResults is how many results one run holds; code scanning services take no more.
	mostResults = 25_000
)

type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver sarifDriver `json:"driver"`
	} `json:"tool"`
	Invocations []sarifInvocation    `json:"invocations"`
	ColumnKind  string               `json:"columnKind"`
	Bases       map[string]sarifBase `json:"originalUriBaseIds,omitempty"`
	Results     []sarifResult        `json:"results"`
}

// sarifBase is a repository without files of its own, in which paths of its history stand.
type sarifBase struct {
	Description sarifMessage `json:"description"`
}

type sarifDriver struct {
	Name           string      `json:"name"`
	InformationURI string      `json:"informationUri"`
	Version        string      `json:"version,omitempty"`
	Rules          []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID               string         `json:"id"`
	Name             string         `json:"name"`
	ShortDescription sarifMessage   `json:"shortDescription"`
	Help             sarifMessage   `json:"help"`
	Properties       map[string]any `json:"properties"`
}

type sarifMessage struct {
	Text string `json:"text"`
}

type sarifInvocation struct {
	ExecutionSuccessful bool                `json:"executionSuccessful"`
	StartTimeUTC        string              `json:"startTimeUtc,omitempty"`
	Notifications       []sarifNotification `json:"toolExecutionNotifications,omitempty"`
}

type sarifNotification struct {
	Level   string       `json:"level"`
	Message sarifMessage `json:"message"`
}

type sarifResult struct {
	RuleID              string             `json:"ruleId"`
	RuleIndex           int                `json:"ruleIndex"`
	Level               string             `json:"level"`
	Message             sarifMessage       `json:"message"`
	Locations           []sarifLocation    `json:"locations"`
	PartialFingerprints map[string]string  `json:"partialFingerprints"`
	Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
	Properties          map[string]any     `json:"properties"`
}

type sarifLocation struct {
	Physical sarifPhysical `json:"physicalLocation"`
}

type sarifPhysical struct {
	Artifact struct {
		URI  string `json:"uri"`
		Base string `json:"uriBaseId,omitempty"`
	} `json:"artifactLocation"`
	Region *sarifRegion `json:"region,omitempty"`
}

type sarifRegion struct {
	StartLine  int   `json:"startLine,omitempty"`
	ByteOffset int64 `json:"byteOffset,omitempty"`
	ByteLength int   `json:"byteLength,omitempty"`
}

type sarifSuppression struct {
	Kind          string `json:"kind"`
	Justification string `json:"justification,omitempty"`
}

// SARIF writes the report as SARIF 2.1.0, with one result for each place of each key. The partial fingerprints are stable: keywrightKey/v1 names
// the key, and keywrightPlace/v1 the key in its file, whatever line it moves to.
func (r *Report) SARIF(w io.Writer) error {
	run := sarifRun{ColumnKind: "utf16CodeUnits", Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "keywright", InformationURI: homepage, Version: r.Version, Rules: []sarifRule{}}
	index := map[string]int{}
	bases := map[Text]string{}
	base := func(p Place) string {
		if p.Repository.IsZero() || p.Path.IsZero() {
			return ""
		}
		name, ok := bases[p.Repository]
		if !ok {
			name = "REPOSITORY-" + strconv.Itoa(len(bases)+1)
			bases[p.Repository] = name
			if run.Bases == nil {
				run.Bases = map[string]sarifBase{}
			}
			run.Bases[name] = sarifBase{Description: sarifMessage{Text: p.Repository.s}}
		}
		return name
	}
	inv := sarifInvocation{ExecutionSuccessful: r.Complete}
	if !r.Started.IsZero() {
		inv.StartTimeUTC = r.Started.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	for _, g := range r.Gaps {
		inv.Notifications = append(inv.Notifications, sarifNotification{Level: "warning", Message: sarifMessage{Text: g.sentence()}})
	}
	for _, g := range r.Unopened {
		inv.Notifications = append(inv.Notifications, sarifNotification{Level: "note", Message: sarifMessage{Text: "not looked into: " + g.phrase()}})
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		id := k.Rule()
		at, ok := index[id]
		if !ok {
			at = len(run.Tool.Driver.Rules)
			index[id] = at
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, k.rule())
		}
		ordinal := map[string]int{}
		for _, p := range k.Places {
			if len(run.Results) == mostResults {
				inv.ExecutionSuccessful = false
				inv.Notifications = append(inv.Notifications, sarifNotification{Level: "warning", Message: sarifMessage{Text: "more results than SARIF readers take were left out"}})
				break
			}
			res := k.result(id, at, p, ordinal)
			res.Locations[0].Physical.Artifact.Base = base(p)
			run.Results = append(run.Results, res)
		}
	}
	run.Invocations = []sarifInvocation{inv}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	return enc.Encode(sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}})
}

// Rule gives the name of the kind in SARIF and annotations, such as "anthropic/api-key".
func (k *Key) Rule() string {
	return strings.ToLower(k.Family + "/" + strings.ReplaceAll(string(k.Kind), " ", "-"))
}

func (k *Key) rule() sarifRule {
	var name strings.Builder
	for word := range strings.FieldsFuncSeq(k.Family+" "+string(k.Kind), func(r rune) bool { return r == ' ' || r == '-' }) {
		name.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return sarifRule{
		ID: k.Rule(), Name: name.String(), ShortDescription: sarifMessage{Text: k.Name() + " in a file or a history"},
		Help:       sarifMessage{Text: "Rotate the key first, then take it out of the file; rewrite history last. keywright scan show FINGERPRINT tells the story of one key."},
		Properties: map[string]any{"tags": []string{"security", "secret"}, "security-severity": "9.0"},
	}
}

func (k *Key) result(id string, rule int, p Place, ordinal map[string]int) sarifResult {
	sum := sha256.Sum256([]byte(strings.Join([]string{string(k.Fingerprint), p.Repository.s, p.Path.s, p.Part, p.Inner.s, p.Form}, "\x00")))
	place := hex.EncodeToString(sum[:12])
	ordinal[place]++
	if n := ordinal[place]; n > 1 {
		place += ":" + strconv.Itoa(n)
	}
	res := sarifResult{
		RuleID: id, RuleIndex: rule, Level: k.level(), Message: sarifMessage{Text: k.sentence(p)},
		PartialFingerprints: map[string]string{"keywrightKey/v1": string(k.Fingerprint), "keywrightPlace/v1": place},
		Properties:          map[string]any{"fingerprint": k.Fingerprint, "grade": k.Grade.String(), "source": p.Source},
	}
	if k.Verdict != nil {
		res.Properties["verdict"] = k.Verdict.State
	}
	if k.Usage != nil {
		res.Properties["usage"] = k.Usage
	}
	if p.Object != "" {
		res.Properties["object"] = p.Object
	}
	var loc sarifLocation
	loc.Physical.Artifact.URI = uri(p)
	if p.Line > 0 {
		loc.Physical.Region = &sarifRegion{StartLine: p.Line}
	}
	res.Locations = []sarifLocation{loc}
	if k.Ignored != nil {
		kind := "external"
		if k.Ignored.By == "mark" {
			kind = "inSource"
		}
		res.Suppressions = []sarifSuppression{{Kind: kind, Justification: k.Ignored.Reason.s}}
		if k.Live() {
			res.Suppressions = nil // an ignored key that is live is still shown
		}
	}
	return res
}

func (k *Key) level() string {
	switch {
	case k.Live() || k.Verdict == nil && k.Grade == scan.Exact:
		return "error"
	case k.Verdict != nil && k.Verdict.State == Dead:
		return "note"
	default:
		return "warning"
	}
}

// sentence says what stands at a place, in one sentence.
func (k *Key) sentence(p Place) string {
	s := fmt.Sprintf("%s %s (%s, %s)", k.Name(), k.Fingerprint, k.Grade, k.Standing())
	if w := k.Whose(); w != "" {
		s += ", " + w
	}
	if d := p.Detail(); d != "" {
		s += ", " + d
	}
	if !p.Inner.IsZero() {
		s += ", within " + p.Inner.s
	}
	if k.Usage != nil && k.Usage.Why == "" {
		s += ", " + k.Usage.Phrase()
	}
	return s + ". Rotate it first; rewrite history last."
}

func (g Gap) sentence() string { return "not searched: " + g.phrase() }

// phrase says what it is about, and why.
func (g Gap) phrase() string {
	if what := g.What(); what != "" {
		return what + ": " + g.Why()
	}
	return g.Why()
}

// uri gives the path as a relative or absolute URI reference, with everything escaped that is not plain.
func uri(p Place) string {
	path := p.Path.s
	if path == "" {
		path = p.Source
		if p.Part != "" {
			path = p.Part
		}
	}
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || slices.Contains([]byte("/-._~"), c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	s := b.String()
	switch {
	case strings.HasPrefix(s, "//"): // would name a host
		return "file:///" + strings.TrimLeft(s, "/")
	case strings.HasPrefix(s, "/"):
		return "file://" + s
	}
	return s
}
