// Package webhook is the channel that posts every notice to an address, signed so that the receiver can tell who sent it and that it is
// new. It speaks https, or http to this host alone, follows no redirect, and reaches no link-local or metadata address. The key of the
// signature stays outside: the channel is given a function that signs. docs/notifications.md describes the request and how to
// verify it. app makes it from the configuration; notify calls it.
package webhook

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/notify"
)

// The headers of a request.
const (
	// HeaderTimestamp holds the time of sending in seconds since 1970.
	HeaderTimestamp = "X-Keywright-Timestamp"
	// HeaderNonce holds 32 hex digits that no other request has.
	HeaderNonce = "X-Keywright-Nonce"
	// HeaderSignature holds "v1=" and the HMAC-SHA256 in hex over timestamp, ".", nonce, "." and the body.
	HeaderSignature = "X-Keywright-Signature"
	// HeaderDelivery is the same for every try of one delivery.
	HeaderDelivery = "X-Keywright-Delivery"
)

// Config says where to post.
type Config struct {
	// URL is the address: https, or http to this host. Its path and query may be secret: they appear in no error and no log.
	URL string
	// Sign gives the HMAC-SHA256 of a message. Nil sends requests without a signature. It may be called from several goroutines.
	Sign func(message []byte) ([]byte, error)
	// HTTP holds further details of the client, such as UserAgent, RootCAs and Log; its BaseURL is not used.
	HTTP httpx.Options
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// DefaultTimeout is how long one request may take.
const DefaultTimeout = 10 * time.Second

const maxReply = 64 << 10 // nothing of it is used

// Channel posts notices.
type Channel struct {
	client *httpx.Client
	query  url.Values
	host   string
	sign   func([]byte) ([]byte, error)
	now    func() time.Time
}

var _ notify.Channel = (*Channel)(nil)

// New makes the channel. It opens no connection. Invalid when the address cannot be used; the error does not quote it.
func New(c Config) (*Channel, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fault.New(fault.Invalid, "read webhook address: it is no URL", fault.Hint("write it as https://host/path"))
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fault.New(fault.Invalid, "read webhook address: its query is malformed")
	}
	host := u.Host
	u.RawQuery, u.ForceQuery = "", false
	o := c.HTTP
	o.BaseURL, o.MaxBody = u.String(), maxReply
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	client, err := httpx.New(o)
	if err != nil {
		return nil, fault.In(err, "make webhook")
	}
	now := c.Now
	if now == nil {
		now = time.Now
	}
	return &Channel{client: client, query: query, host: strings.ToLower(host), sign: c.Sign, now: now}, nil
}

// Name gives "webhook " and the host. The path may be secret and is left out.
func (c *Channel) Name() string { return "webhook " + c.host }

// Send posts the notice once. A 2xx status means that it was taken. Kinds are those of httpx; a lost reply is Unavailable, since the
// receiver tells repeated deliveries apart.
func (c *Channel) Send(ctx context.Context, id string, n notify.Notice) error {
	body, err := n.Body()
	if err != nil {
		return err
	}
	random := make([]byte, 16)
	rand.Read(random)
	stamp, nonce := strconv.FormatInt(c.now().Unix(), 10), hex.EncodeToString(random)
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set(HeaderTimestamp, stamp)
	h.Set(HeaderNonce, nonce)
	h.Set(HeaderDelivery, id)
	if c.sign != nil {
		mac, err := c.sign(Message(stamp, nonce, body))
		if err != nil {
			return fault.In(err, "sign notice")
		}
		h.Set(HeaderSignature, "v1="+hex.EncodeToString(mac))
	}
	_, err = c.client.Do(ctx, httpx.Request{Method: http.MethodPost, Query: c.query, Header: h, Body: body, Repeatable: true})
	return err
}

// Message gives the bytes that are signed.
func Message(timestamp, nonce string, body []byte) []byte {
	return append([]byte(timestamp+"."+nonce+"."), body...)
}
