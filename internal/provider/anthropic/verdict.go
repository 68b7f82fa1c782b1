package anthropic

import (
	"regexp"

	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/verdict"
)

// row is one line of the verdict table. Empty fields match everything.
type row struct {
	status  int
	code    string // error.details.error_code
	message *regexp.Regexp
	answer  provider.Answer
	reason  string
}

// verdictTable says what a refusal means for the value; the first row that matches wins, and what no row matches is Unknown. It applies
// only to errors in the provider's own shape: a page by an edge, a proxy or a portal says nothing about a key, whatever its status. The
// wording of messages is not stable, so rows that look at it never say Dead.
func verdictTable() []row {
	return []row{
		{400, verdict.CodeCreatorLeft, nil, provider.Dead, "the key's creator is no longer a member of the organization"},
		{400, verdict.CodeOnHold, nil, provider.Blocked, "the organization is on hold"},
		{400, "", regexp.MustCompile(`(?i)^You have reached your specified .*usage limits`), provider.Blocked, "a spend limit that the customer set is reached"},
		{400, "", regexp.MustCompile(`(?i)^Your credit balance is too low`), provider.Blocked, "the prepaid credit is used up"},
		// A refusal of the request's origin, which is never sent.
		{401, "", regexp.MustCompile(`(?i)\bCORS\b`), provider.Unknown, "the call was refused for its origin"},
		{401, "", nil, provider.Dead, "the provider refused the value"},
		{402, verdict.CodeLinkedSpendLimit, nil, provider.Blocked, "the spend limit of the linked organization is reached"},
		{402, verdict.CodeLinkedBilling, nil, provider.Blocked, "billing of the linked organization is not available"},
		{402, "", nil, provider.Blocked, "there is trouble with payment"},
		{403, "", regexp.MustCompile(`(?i)\bIP address\b`), provider.Blocked, "the organization does not allow calls from this address"},
		{403, "", nil, provider.Blocked, "the key lacks a permission"},
		{429, verdict.CodeEnforcedCap, nil, provider.Blocked, "the monthly limit of the usage tier is reached"},
		{429, verdict.CodeContractCap, nil, provider.Blocked, "the spend limit of the contract is reached"},
		{429, verdict.CodeRamp, nil, provider.Blocked, "usage grows faster than the provider allows"},
		{429, "", nil, provider.Blocked, "a rate limit is reached"},
		{503, verdict.CodeCustomerKey, nil, provider.Unknown, "the customer-managed encryption key cannot be reached"},
		{529, "", nil, provider.Unknown, "the provider is overloaded"},
	}
}

// errorCodes are the codes that a verdict may carry.
func errorCodes() []string {
	return append(verdict.Codes(), codeOrganizationLimit, codeWorkspaceLimit)
}

// judge turns a reply into a verdict. err is the error that came with the reply; proof says whether a good reply is really the
// provider's, since a portal may answer 200 too.
func judge(r httpx.Reply, err error, proof func(httpx.Reply) bool) provider.Verdict {
	v := provider.Verdict{
		Answer: provider.Unknown, Status: r.Status, RequestID: r.RequestID, Date: r.Date, RetryAfter: r.RetryAfter,
		Organization: r.HeaderWord("anthropic-organization-id", uuidPattern()),
		Workspace:    r.HeaderWord("anthropic-workspace-id", workspacePattern()),
	}
	switch {
	case err == nil && proof(r):
		v.Answer, v.Reason = provider.Live, "the provider accepted the value"
		return v
	case err == nil:
		v.Reason = "the reply is not of the provider's form"
		return v
	case r.Status == 0:
		v.Reason = "the provider gave no reply"
		return v
	case r.Status >= 200 && r.Status <= 299:
		v.Reason = "the reply did not come whole"
		return v
	case r.Status >= 300 && r.Status <= 399:
		v.Reason = "the provider's address sends elsewhere"
		return v
	case r.Word("type", "error") == "" || !r.Match("error.type", wordPattern()):
		v.Reason = "the error is not of the provider's form"
		return v
	}
	v.Type, v.Code = r.Word("error.type", verdict.Types()...), r.Word("error.details.error_code", errorCodes()...)
	for _, w := range verdictTable() {
		if w.status == r.Status && (w.code == "" || w.code == v.Code) && (w.message == nil || r.Match("error.message", w.message)) {
			v.Answer, v.Reason = w.answer, w.reason
			return v
		}
	}
	v.Reason = "the provider's error says nothing about the value"
	return v
}
