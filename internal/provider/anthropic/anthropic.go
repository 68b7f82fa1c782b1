// Package anthropic speaks to the Anthropic API as the issuer of keys: what a value is worth, which keys there are, setting them
// inactive, active or archived, who used them and at what cost, and who changed them. Intake, monitor and runner call it through the contract of the
// package provider.
//
// It never makes or deletes a key (the API cannot), never repeats a call on its own account, never decides what a verdict means, never
// sends an Origin header and never passes text of a reply on but for names and known words. All calls but the choice of a model cost
// nothing; Message alone leaves usage.
//
// Without an admin key the provider that New returns has no ability that needs one: ask by type assertion.
package anthropic

import (
	"context"
	"net/http"
	"regexp"
	"sync"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret"
)

// DefaultBaseURL is where the provider serves its API.
const DefaultBaseURL = "https://api.anthropic.com"

// DefaultModel is asked by Count and Message: the cheapest current model.
const DefaultModel = "claude-haiku-5-5"

// version is the one anthropic-version that every call of this package sends; shapes are read for it, and leniently for 2023-06-01.
const version = "2026-10-21"

// Config says whom to ask and with what.
type Config struct {
	// BaseURL is DefaultBaseURL when it is empty. See httpx.Options for what is allowed.
	BaseURL string
	// AdminKey gives the admin key when a call needs it; it is called once for each call and its error is handed on. The value stays
	// the callee's: it is not destroyed. Nil means that there is no admin key.
	AdminKey func(ctx context.Context) (secret.Value, error)
	// Model is asked by Count and Message; empty means DefaultModel. When the provider does not know it, the cheapest active model of
	// its list is taken instead.
	Model string
	// HTTP holds bounds, proxy, user agent, trace and clock. Its BaseURL is ignored.
	HTTP httpx.Options
}

// New makes a provider and opens no connection. It returns a *Keys when there is no admin key, else an *Admin. Errors are Invalid.
func New(c Config) (provider.Provider, error) {
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	if c.Model == "" {
		c.Model = DefaultModel
	}
	if !modelPattern().MatchString(c.Model) {
		return nil, fault.Newf(fault.Invalid, "read provider configuration: %q is no model id", c.Model)
	}
	c.HTTP.BaseURL = c.BaseURL
	client, err := httpx.New(c.HTTP)
	if err != nil {
		return nil, fault.In(err, "read provider configuration")
	}
	k := &Keys{http: client, model: c.Model}
	if c.AdminKey == nil {
		return k, nil
	}
	return &Admin{Keys: k, key: c.AdminKey}, nil
}

// Keys is what can be done with a key's own value. It is safe for concurrent use.
type Keys struct {
	http  *httpx.Client
	model string
}

// Admin is Keys and what an admin key adds. It is safe for concurrent use.
type Admin struct {
	*Keys
	key func(context.Context) (secret.Value, error)
}

var (
	_ provider.Provider         = (*Keys)(nil)
	_ provider.Tester           = (*Keys)(nil)
	_ provider.Clock            = (*Keys)(nil)
	_ provider.Provider         = (*Admin)(nil)
	_ provider.Tester           = (*Admin)(nil)
	_ provider.Clock            = (*Admin)(nil)
	_ provider.Lister           = (*Admin)(nil)
	_ provider.StatusSetter     = (*Admin)(nil)
	_ provider.UsageReporter    = (*Admin)(nil)
	_ provider.CostReporter     = (*Admin)(nil)
	_ provider.ActivityReporter = (*Admin)(nil)
	_ provider.Organizer        = (*Admin)(nil)
)

func versionHeader() http.Header {
	h := http.Header{}
	h.Set("anthropic-version", version)
	return h
}

// The forms of the provider's public words. Text that does not have the form is dropped.
var (
	modelPattern     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9.@:-]{0,63}$`) })
	idPattern        = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`) })
	workspacePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^wrkspc_[A-Za-z0-9]{1,56}$`) })
	uuidPattern      = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	})
	wordPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9_]{1,64}$`) })
)
