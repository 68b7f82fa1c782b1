package plant

import (
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

var leOrder = binary.LittleEndian

// Negative is something that looks like a key and is none.
type Negative struct {
	Name string
	Make func(g *Garden) []byte
}

// Negatives gives every stand-in and look-alike. Their order is fixed.
func Negatives() []Negative {
	api := "sk-ant-" + "api03-"
	text := func(name, s string) Negative { return Negative{name, func(*Garden) []byte { return []byte(s) }} }
	draw := func(name string, f func(*Garden) string) Negative {
		return Negative{name, func(g *Garden) []byte { return []byte(f(g)) }}
	}
	return []Negative{
		text("crosses", "K="+api+strings.Repeat("x", 95)+"\n"),
		text("zeros", "K="+api+strings.Repeat("0", 93)+"AA\n"),
		text("dots", "K="+api+"...\n"),
		text("stars", "K="+api+"****************\n"),
		text("words", "K="+api+"your-api-key-goes-here-and-nowhere-else-at-all\n"),
		text("example", "K="+api+"EXAMPLE-abcdefgh1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmn-example-key-for-docs-AA\n"),
		text("alphabet", "K="+api+"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz01234AA\n"),
		text("repeated", "K="+api+strings.Repeat("aB3-xY_9", 12)[:93]+"AA\n"),
		draw("cut short", func(g *Garden) string { return "K=" + g.Key()[:28] + "\n" }),
		draw("masked", func(g *Garden) string { k := g.Key(); return "K=" + k[:20] + "..." + k[104:] + "\n" }),
		draw("fake by words", func(g *Garden) string { return "K=" + api + "fake-" + g.Text(alnum, 88) + "AA\n" }),
		text("pattern", `re = "\b(`+api+`[a-zA-Z0-9_\-]{93}AA)\b"`+"\n"),
		text("prefix in prose", "Keys start with "+api+" and admin keys with "+"sk-ant-"+"admin01-.\n"),
		text("variable", "K="+api+"${KEY_BODY}\nL=$ANTHROPIC_API_KEY\n"),
		text("page name", "https://example.com/ask-ant-design-button-primary-large-rounded-full-width-container-component\n"),
		text("style class", ".task-ant-colony-optimization-of-the-travelling-salesman-problem-1997{}\n"),
		text("crosses in base64", b64("key: "+api+strings.Repeat("x", 95))+"\n"),
		text("crosses in hex", hex.EncodeToString([]byte(api+strings.Repeat("x", 95)))+"\n"),
		text("crosses in percent", strings.ReplaceAll(api+strings.Repeat("X", 95), "-", "%2D")+"\n"),
		text("split words", "K=\""+api+"\" +\n  \"your-key-here\"\n"),
		text("split over prose", "Use "+api+"\nand then go on with other words that are long enough to be taken for a body of a key, AA\n"),
		text("identifiers", "apikey_01ABCDEFGHJKMNPQRSTVWXYZ wrkspc_01ABCDEFGHJKMNPQRSTVWXYZ req_011ABCDEFGHJKMNPQRSTVWXYZ\n"),
		draw("digest", func(g *Garden) string { s := sha512.Sum512(g.Noise(10)); return hex.EncodeToString(s[:]) }),
		draw("integrity", func(g *Garden) string {
			s := sha512.Sum512(g.Noise(10))
			return "sha512-" + base64.StdEncoding.EncodeToString(s[:])
		}),
		draw("other provider", func(g *Garden) string {
			return "sk_" + "live_" + g.Text(alnum, 99) + " AKIA" + g.Text("ABCDEFGHIJKLMNOP234567", 16)
		}),
		draw("public key", func(g *Garden) string { return "ssh-rsa AAAAB3NzaC1yc2E" + g.Text(alnum+"+/", 349) + " a@example.com" }),
		draw("web token", func(g *Garden) string {
			return "eyJ" + g.Text(urlSafe, 40) + ".eyJ" + g.Text(urlSafe, 200) + "." + g.Text(urlSafe, 43)
		}),
		draw("picture in base64", func(g *Garden) string { return base64.StdEncoding.EncodeToString(g.Noise(1 << 20)) }),
		draw("start of gzip by chance", func(g *Garden) string { return g.Text(alnum, 50) + "H4sIAAAA" + g.Text(alnum, 400) }),
		{"noise", func(g *Garden) []byte { return g.Noise(1 << 20) }},
		text("webhook placeholder", "S=whs"+"ec_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\nT=whs"+"ec_test\n"),
		text("other family's crosses", "K=sk-"+"proj-"+strings.Repeat("x", 48)+"\n"),
		{"crosses in UTF-16", func(*Garden) []byte { return wide(api+strings.Repeat("x", 95), leOrder, true) }},
		{"crosses in gzip", func(*Garden) []byte { return Gzip([]byte(api + strings.Repeat("x", 95))) }},
	}
}
