package object

import (
	"strings"
	"testing"
)

func TestPlainID(t *testing.T) {
	for _, id := range []string{"file_011CNha8iCJcU1wXNR6q4V8w", "msgbatch_1", "a.b", "a:b@c-d", strings.Repeat("x", 128)} {
		if !PlainID(id) {
			t.Errorf("%q is no id", id)
		}
	}
	for _, id := range []string{"", ".", ".a", "a..b", "a/b", "a b", "a%2e", "a\x00", "\u00e9", strings.Repeat("x", 129)} {
		if PlainID(id) {
			t.Errorf("%q is an id", id)
		}
	}
}
