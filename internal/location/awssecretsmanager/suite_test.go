package awssecretsmanager

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/secret"
)

func TestSuite(t *testing.T) {
	for _, style := range []string{"staged", "direct"} {
		for _, field := range []string{"", "api_key"} {
			t.Run(style+" "+field, func(t *testing.T) {
				h := harness(style, field, func(t testing.TB) (peer, *fake) {
					f := newFake(t)
					return peer{t, f.URL}, f
				})
				h.CAS, h.RetryAfter = true, true
				h.Faults = append(locationtest.StatusFaults(), locationtest.Interruptions()...)
				locationtest.Run(t, h)
			})
		}
	}
}

// around is the document of the places under test: what stands before and behind the value.
var around = [2]string{"{\n  \"first\": \"\\u0061\",\n  \"api_key\" : ", ",\n  \"nested\" : {\"api_key\": [\"x\"]}\n}\n"}

// harness makes places of one style and one way to hold the value. start gives a peer, and a nil fake where it is real.
func harness(style, field string, start func(testing.TB) (peer, *fake)) locationtest.Harness {
	made := 0
	return locationtest.Harness{
		How: location.ReadBack,
		New: func(tb testing.TB) *locationtest.Place {
			p, f := start(tb)
			made++
			name := fmt.Sprintf("team/app-%d", made)
			behind := around[1]
			split := func(text string) (value, rest string) {
				if field == "" {
					return text, ""
				}
				literal, ok := strings.CutPrefix(text, around[0])
				if !ok {
					tb.Fatal("what stands before the value changed")
				}
				d := json.NewDecoder(strings.NewReader(literal))
				if err := d.Decode(&value); err != nil {
					tb.Fatal(err)
				}
				return value, literal[d.InputOffset():]
			}
			build := func(v secret.Value) string {
				if field == "" {
					return v.RevealString()
				}
				return around[0] + `"` + v.RevealString() + `"` + behind
			}
			if field == "" {
				p.create(name, "")
			} else {
				p.create(name, build(secret.Value{}))
			}
			labelled := func() []string {
				all, _ := p.do("DescribeSecret", map[string]any{"SecretId": name})["VersionIdsToStages"].(map[string]any)
				var ids []string
				for id, labels := range all {
					if len(labels.([]any)) > 0 {
						ids = append(ids, id)
					}
				}
				return ids
			}
			place := &locationtest.Place{
				Driver: p.open(name, field, style),
				Again:  func() location.Driver { return p.open(name, field, style) },
				Held: func(testing.TB) ([]byte, bool) {
					if p.labels(name, current) == "" {
						return nil, false
					}
					value, _ := split(p.text(name, current))
					return []byte(value), value != ""
				},
				Overwrite: func(_ testing.TB, v secret.Value) { p.overwrite(name, build(v)) },
				StageForeign: func(_ testing.TB, v secret.Value) {
					p.do("PutSecretValue", map[string]any{"SecretId": name, "SecretString": build(v), "ClientRequestToken": foreignID(), "VersionStages": []string{pending}})
				},
				Copies: func(testing.TB) [][]byte {
					var all [][]byte
					for _, id := range labelled() {
						text, _ := p.do("GetSecretValue", map[string]any{"SecretId": name, "VersionId": id})["SecretString"].(string)
						all = append(all, []byte(text))
					}
					return all
				},
			}
			if field != "" {
				place.Neighbours = func(testing.TB) []byte {
					_, rest := split(p.text(name, current))
					return []byte(rest)
				}
				place.Disturb = func(testing.TB) {
					value, _ := split(p.text(name, current))
					behind = strings.Replace(behind, `"x"`, `"x" , "y"`, 1)
					p.overwrite(name, build(secret.New([]byte(value))))
				}
			}
			if f != nil {
				place.Break = f.breakOnce
			}
			return place
		},
	}
}

func foreignID() string {
	return fmt.Sprintf("22222222-0000-4000-8000-%012d", time.Now().UnixNano()%1e12)
}

// breakOnce makes the fake fail as the suite asks. A fault on a write hits the call that the change consists in: the one that puts the value
// in force, or stages it.
func (f *fake) breakOnce(_ testing.TB, b locationtest.Fault) {
	codes := map[int]string{401: "UnrecognizedClientException", 403: "AccessDeniedException", 404: "ResourceNotFoundException", 409: "PreconditionNotMetException", 429: "ThrottlingException", 500: "InternalServiceError"}
	t := trouble{status: b.Status, code: codes[b.Status], cut: b.Cut, applied: b.Cut || b.Garbage, hang: b.Hang}
	switch {
	case b.Garbage:
		t.status, t.body = http.StatusOK, "]garbage["
	case b.Status == http.StatusTooManyRequests:
		t.retryAfter = fmt.Sprint(locationtest.RetryAfterSeconds)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.once = &t
	f.when = func(action string, in map[string]any) bool {
		if !b.OnWrite {
			return true
		}
		labels, _ := in["VersionStages"].([]any)
		s := f.secrets[fmt.Sprint(in["SecretId"])]
		switch action {
		case "PutSecretValue":
			return slices.Contains(labels, any(pending)) || s != nil && len(s.versions) == 0
		case "UpdateSecretVersionStage":
			return in["MoveToVersionId"] != nil
		}
		return false
	}
}
