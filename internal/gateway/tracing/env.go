package tracing

import (
	"cmp"
	"crypto/x509"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/keywright/keywright/internal/fault"
)

// settings is what Options and the environment say together.
type settings struct {
	base, path string
	sampler    sdk.Sampler
	timeout    time.Duration
	gzip       bool
	roots      *x509.CertPool
}

const tracesPath = "/v1/traces"

// read gives nil without an error when spans are not wanted.
func read(o Options) (*settings, error) {
	env := func(name string) string { return strings.TrimSpace(o.Getenv(name)) }
	// A variable for traces wins over the one for all signals.
	both := func(name string) string {
		if v := env("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
			return v
		}
		return env("OTEL_EXPORTER_OTLP_" + name)
	}
	address := o.Endpoint
	if address == "" {
		address = both("ENDPOINT")
	}
	exporter := env("OTEL_TRACES_EXPORTER")
	if address == "" || strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") || o.Endpoint == "" && exporter == "none" {
		return nil, nil
	}
	unsupported := func(what, hint string) (*settings, error) {
		return nil, fault.New(fault.Unsupported, "start traces: "+what, fault.Hint("%s", hint))
	}
	if o.Endpoint == "" && exporter != "" && exporter != "otlp" {
		return unsupported("OTEL_TRACES_EXPORTER names another exporter than otlp", "set it to otlp, or to none")
	}
	if p := both("PROTOCOL"); p != "" && p != "http/protobuf" {
		return unsupported("OTEL_EXPORTER_OTLP_PROTOCOL is not http/protobuf", "set it to http/protobuf, and the address to the collector's port for it, usually 4318")
	}
	if both("CLIENT_CERTIFICATE") != "" {
		return unsupported("a client certificate for the collector is not supported", "use OTEL_EXPORTER_OTLP_HEADERS, or a collector on this host")
	}
	s := &settings{timeout: 10 * time.Second, roots: o.RootCAs}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, invalid("the collector's address is no absolute URL", "write it as https://host:4318")
	}
	if s.path = strings.TrimSuffix(u.Path, "/") + tracesPath; o.Endpoint == "" && env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		s.path = cmp.Or(u.Path, "/") // that one is used as it is
	}
	u.Path, u.RawPath = "", ""
	s.base = u.String()
	if text := both("TIMEOUT"); text != "" {
		ms, err := strconv.Atoi(text)
		if err != nil || ms <= 0 || ms > 60_000 {
			return nil, invalid("OTEL_EXPORTER_OTLP_TIMEOUT is no number of milliseconds up to a minute", "10000 is the default")
		}
		s.timeout = time.Duration(ms) * time.Millisecond
	}
	switch both("COMPRESSION") {
	case "", "none":
	case "gzip":
		s.gzip = true
	default:
		return unsupported("OTEL_EXPORTER_OTLP_COMPRESSION is neither gzip nor none", "set it to gzip")
	}
	if path := both("CERTIFICATE"); path != "" {
		pem, err := os.ReadFile(path)
		if s.roots = x509.NewCertPool(); err != nil || !s.roots.AppendCertsFromPEM(pem) {
			return nil, invalid("OTEL_EXPORTER_OTLP_CERTIFICATE names no file of certificates", "it must be PEM")
		}
	}
	if _, err := headers(o.Getenv); err != nil {
		return nil, err
	}
	s.sampler, err = sampler(env("OTEL_TRACES_SAMPLER"), env("OTEL_TRACES_SAMPLER_ARG"))
	return s, err
}

func invalid(what, hint string) error {
	return fault.New(fault.Invalid, "start traces: "+what, fault.Hint("%s", hint))
}

// sampler reads the standard's words. Without one a caller that says whether it samples is followed, and all other requests are sampled.
func sampler(name, arg string) (sdk.Sampler, error) {
	ratio := 1.0
	if arg != "" {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, invalid("OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1", "0.01 samples one request in a hundred")
		}
	}
	switch name {
	case "always_on":
		return sdk.AlwaysSample(), nil
	case "always_off":
		return sdk.NeverSample(), nil
	case "traceidratio":
		return sdk.TraceIDRatioBased(ratio), nil
	case "", "parentbased_always_on":
		return sdk.ParentBased(sdk.AlwaysSample()), nil
	case "parentbased_always_off":
		return sdk.ParentBased(sdk.NeverSample()), nil
	case "parentbased_traceidratio":
		return sdk.ParentBased(sdk.TraceIDRatioBased(ratio)), nil
	}
	return nil, invalid("OTEL_TRACES_SAMPLER is not known", "use parentbased_traceidratio, with the share in OTEL_TRACES_SAMPLER_ARG")
}

// headers reads name=value pairs, with values in the form of a URL's. The error quotes nothing: values are often secret.
func headers(getenv func(string) string) (http.Header, error) {
	text := strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS"))
	if text == "" {
		text = strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_HEADERS"))
	}
	h := http.Header{}
	if text == "" {
		return h, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		plain, err := url.PathUnescape(value)
		if plain = strings.TrimSpace(plain); !ok || err != nil || !token(name) || strings.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, invalid("OTEL_EXPORTER_OTLP_HEADERS cannot be read", "write it as name=value,name=value, with special characters as %XX")
		}
		h.Set(name, plain)
	}
	return h, nil
}

// token reports whether s may be the name of a header.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}
