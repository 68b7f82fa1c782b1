package httpx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/keywright/keywright/internal/fault"
)

// statusError is the fault of a status that is not 2xx. It names the status and nothing of the body.
func statusError(r Reply, where string) error {
	text := http.StatusText(r.Status)
	if text == "" {
		text = "no standard status"
	}
	kind, hint := statusKind(r.Status, r.write)
	opts := []fault.Option{fault.RetryAfter(r.RetryAfter)}
	if hint != "" {
		opts = append(opts, fault.Hint("%s", hint))
	}
	message := fmt.Sprintf("%s: %d %s", where, r.Status, text)
	if r.RequestID != "" {
		message += " (request " + r.RequestID + ")"
	}
	return fault.New(kind, message, opts...)
}

// statusKind is the table of the package comment. write means a write that was not declared repeatable.
func statusKind(status int, write bool) (fault.Kind, string) {
	switch status {
	case http.StatusUnauthorized:
		return fault.Unauthenticated, ""
	case http.StatusForbidden:
		return fault.Forbidden, ""
	case http.StatusNotFound, http.StatusGone:
		return fault.NotFound, ""
	case http.StatusConflict, http.StatusPreconditionFailed:
		return fault.Conflict, ""
	case http.StatusTooManyRequests:
		return fault.RateLimited, ""
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return fault.Unavailable, ""
	case http.StatusProxyAuthRequired:
		return fault.Forbidden, "the proxy wants a login"
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		// The other side, or a gateway before it, may have got so far as to apply the change.
		if write {
			return fault.Indeterminate, "the change may have been applied: look before it is repeated"
		}
	}
	switch {
	case status >= 300 && status <= 399:
		return fault.Invalid, "redirects are not followed: configure the address that the other side moved to"
	case status >= 400 && status <= 499:
		return fault.Invalid, ""
	}
	return fault.Unavailable, ""
}

// broken is the fault of an exchange that ended without a whole reply. maybeApplied is true for a write whose request may have reached
// the other side. Messages of net/http may quote the reply, hence only phrases of our own go out.
func (c *Client) broken(ctx context.Context, where string, err error, maybeApplied bool) error {
	message, hint := where+": "+phrase(err), ""
	kind := fault.Unavailable
	var refused *refusedAddress
	switch {
	case maybeApplied:
		kind, hint = fault.Indeterminate, "the change may have been applied: look before it is repeated"
	case errors.As(err, &refused):
		kind, hint = fault.Invalid, "configure the address of the service itself"
	case ctx.Err() != nil:
		kind = fault.KindOf(ctx.Err())
	}
	opts := []fault.Option{}
	if hint != "" {
		opts = append(opts, fault.Hint("%s", hint))
	}
	if ctx.Err() != nil {
		// The context's error carries no text of the other side, and callers may ask for it by errors.Is.
		return fault.Wrap(kind, ctx.Err(), where, opts...)
	}
	return fault.New(kind, message, opts...)
}

// handshakeError marks an error of the TLS handshake, for which crypto/tls has no type of its own.
type handshakeError struct{ cause error }

func (e *handshakeError) Error() string { return e.cause.Error() }
func (e *handshakeError) Unwrap() error { return e.cause }

// phrase describes a broken exchange.
func phrase(err error) string {
	var (
		dns      *net.DNSError
		refused  *refusedAddress
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		shake    *handshakeError
		network  net.Error
	)
	switch {
	case errors.As(err, &refused):
		return refused.why
	case errors.As(err, &dns):
		return "the host name was not found"
	case errors.As(err, &hostname):
		return "the certificate is for another host"
	case errors.As(err, &unknown):
		return "the certificate is of an unknown authority"
	case errors.As(err, &invalid), errors.As(err, &verify):
		return "the certificate is not valid"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no whole reply in time"
	case errors.As(err, &shake):
		return "TLS could not be agreed on"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection ended before the reply was whole"
	case errors.As(err, &network) && network.Timeout():
		return "no whole reply in time"
	}
	return "there was no usable reply"
}
