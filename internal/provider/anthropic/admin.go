package anthropic

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	sdk "github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/option"
	"github.com/anthropics/anthropic-sdk-go/v2/packages/pagination"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/provider"
)

// pageSize is the largest page of the lists and reports; maxPages ends a list that never ends.
const (
	pageSize = 1000
	maxPages = 1000
)

// The codes of a cap on the number of active keys.
const (
	codeOrganizationLimit = "org_api_key_limit_exceeded"
	codeWorkspaceLimit    = "workspace_api_key_limit_exceeded"
)

// auth is the one place where the admin key is read.
func (a *Admin) auth(ctx context.Context) (httpx.Auth, error) {
	v, err := a.key(ctx)
	if err != nil {
		return httpx.Auth{}, fault.In(err, "read admin key")
	}
	return httpx.Header("x-api-key", v), nil
}

// get asks a path of the Admin API that the SDK does not know.
func (a *Admin) get(ctx context.Context, path string, query url.Values, into any) (httpx.Reply, error) {
	auth, err := a.auth(ctx)
	if err != nil {
		return httpx.Reply{}, err
	}
	reply, err := a.http.Do(ctx, httpx.Request{Path: path, Query: query, Header: versionHeader(), Auth: auth})
	if err != nil {
		return reply, explain(err, reply)
	}
	return reply, reply.Decode(into)
}

// viaSDK makes one call by the official SDK, over the project's own HTTP client: environment, retries and errors of the SDK are out of
// play, since its errors quote the reply.
func (a *Admin) viaSDK(ctx context.Context, write bool, call func(c sdk.Client) error) (httpx.Reply, error) {
	auth, err := a.auth(ctx)
	if err != nil {
		return httpx.Reply{}, err
	}
	adapter := a.http.Adapt(auth, !write, "Accept", "Content-Type", "anthropic-version", "anthropic-beta")
	err = call(sdk.NewClient(option.WithoutEnvironmentDefaults(), option.WithBaseURL(a.http.BaseURL()), option.WithHTTPClient(adapter),
		option.WithMaxRetries(0), option.WithHeader("anthropic-version", version)))
	reply, cause := adapter.Last()
	switch {
	case cause != nil:
		return reply, explain(cause, reply)
	case err == nil:
		return reply, nil
	case ctx.Err() != nil && reply.Status == 0:
		return reply, fault.In(ctx.Err(), "call the provider")
	}
	return reply, strange(write)
}

// strange is the error of a good status whose body is not what was asked for.
func strange(write bool) error {
	if write {
		return fault.New(fault.Indeterminate, "read reply: it is not of the provider's form", fault.Hint("the change may have been applied: look before it is repeated"))
	}
	return fault.New(fault.Unavailable, "read reply: it is not of the provider's form")
}

// explain adds a hint to the refusal of an admin call.
func explain(err error, r httpx.Reply) error {
	switch r.Status {
	case http.StatusUnauthorized:
		return fault.In(err, "use admin key", fault.Hint("the provider refused the admin key: check provider.admin_key; admin keys are made in the Console under Settings, Admin keys"))
	case http.StatusForbidden:
		return fault.In(err, "use admin key", fault.Hint("the admin key is genuine and lacks this right, or the organization does not allow this address"))
	}
	return err
}

// List gives every key of the organization, or of one workspace, in the provider's order. A list of which a part is missing is an error:
// Unavailable when the reply makes no sense.
func (a *Admin) List(ctx context.Context, workspace string) ([]provider.Key, error) {
	params := sdk.OrganizationAPIKeyListParams{Limit: sdk.Int(pageSize)}
	if workspace != "" {
		params.WorkspaceID = sdk.String(workspace)
	}
	var keys []provider.Key
	known := map[string]bool{}
	cursors := map[string]bool{}
	// The pager of the SDK ends quietly when a page lacks its cursor, hence page by page.
	for range maxPages {
		var page *pagination.Page[sdk.APIKey]
		if _, err := a.viaSDK(ctx, false, func(c sdk.Client) (err error) {
			page, err = c.Organization.APIKeys.List(ctx, params)
			return err
		}); err != nil {
			return nil, fault.In(err, "list keys")
		}
		if page == nil || !page.JSON.Data.Valid() || !page.JSON.HasMore.Valid() {
			return nil, fault.In(strange(false), "list keys")
		}
		for _, item := range page.Data {
			key, err := parseKey(item.RawJSON())
			if err != nil {
				return nil, fault.In(err, "list keys")
			}
			if !known[key.ID] {
				known[key.ID] = true
				keys = append(keys, key)
			}
		}
		if !page.HasMore {
			return keys, nil
		}
		if page.LastID == "" || cursors[page.LastID] || len(page.Data) == 0 {
			break
		}
		cursors[page.LastID] = true
		params.AfterID = sdk.String(page.LastID)
	}
	return nil, fault.New(fault.Unavailable, "list keys: the provider says there are more, and does not give them")
}

// SetStatus sets a key inactive, active or archived and gives back the record. Kinds: Invalid (the id or status), NotFound, Forbidden
// (also a reached cap of active keys; the message holds the code), Conflict (an archived or expired key, or the record shows another
// status), Indeterminate (the reply was lost; setting it again is safe), and those of httpx.
func (a *Admin) SetStatus(ctx context.Context, id string, s provider.Status) (provider.Key, error) {
	doing := fmt.Sprintf("set key %s %s", word(id, idPattern), word(string(s), wordPattern))
	if s != provider.Active && s != provider.Inactive && s != provider.Archived {
		return provider.Key{}, fault.New(fault.Invalid, doing+": a key can be set active, inactive or archived")
	}
	if !idPattern().MatchString(id) {
		return provider.Key{}, fault.New(fault.Invalid, doing+": the id is malformed")
	}
	var raw *sdk.APIKey
	reply, err := a.viaSDK(ctx, true, func(c sdk.Client) (err error) {
		raw, err = c.Organization.APIKeys.Update(ctx, id, sdk.OrganizationAPIKeyUpdateParams{Status: sdk.OrganizationAPIKeyUpdateParamsStatus(s)})
		return err
	})
	if err != nil {
		if code := reply.Word("error.details.error_code", codeOrganizationLimit, codeWorkspaceLimit); code != "" {
			return provider.Key{}, fault.Wrap(fault.Forbidden, err, doing+": "+code, fault.Hint("the number of active keys is capped: set another key of the same %s inactive first", scopeOf(code)))
		}
		if reply.Status == http.StatusBadRequest {
			return a.refused(ctx, id, s, doing, err)
		}
		return provider.Key{}, fault.In(err, doing)
	}
	if raw == nil {
		return provider.Key{}, fault.In(strange(true), doing)
	}
	key, err := parseKey(raw.RawJSON())
	if err != nil || key.ID != id {
		return provider.Key{}, fault.In(strange(true), doing)
	}
	if key.Status != s {
		return provider.Key{}, fault.Newf(fault.Conflict, "%s: the provider shows it as %s", doing, key.Status)
	}
	return key, nil
}

func scopeOf(code string) string {
	if code == codeWorkspaceLimit {
		return "workspace"
	}
	return "organization"
}

// refused looks at a key whose change the provider refused with 400: it may be so already, or in a state without a way back.
func (a *Admin) refused(ctx context.Context, id string, s provider.Status, doing string, cause error) (provider.Key, error) {
	var raw *sdk.APIKey
	if _, err := a.viaSDK(ctx, false, func(c sdk.Client) (err error) {
		raw, err = c.Organization.APIKeys.Get(ctx, id)
		return err
	}); err != nil || raw == nil {
		return provider.Key{}, fault.In(cause, doing)
	}
	key, err := parseKey(raw.RawJSON())
	switch {
	case err != nil || key.ID != id:
	case key.Status == s:
		return key, nil
	case key.Status == provider.Archived || key.Status == provider.Expired:
		return provider.Key{}, fault.Wrap(fault.Conflict, cause, fmt.Sprintf("%s: it is %s, and there is no way back", doing, key.Status))
	}
	return provider.Key{}, fault.In(cause, doing)
}

// Organization gives the UUID and the name of the organization that the admin key belongs to.
func (a *Admin) Organization(ctx context.Context) (id, name string, err error) {
	var me struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	if _, err := a.get(ctx, "/v1/organizations/me", nil, &me); err != nil {
		return "", "", fault.In(err, "read organization")
	}
	if !uuidPattern().MatchString(me.ID) {
		return "", "", fault.In(strange(false), "read organization")
	}
	return me.ID, clean(me.Name), nil
}
