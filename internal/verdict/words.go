package verdict

import (
	"maps"
	"slices"
)

// The error codes of the provider, in error.details.error_code, that are no matter of a key's administration.
const (
	CodeCreatorLeft      = "claude_code_key_creator_not_member"
	CodeOnHold           = "organization_on_hold"
	CodeLinkedSpendLimit = "linked_organization_spend_limit_reached"
	CodeLinkedBilling    = "linked_organization_billing_unavailable"
	CodeEnforcedCap      = "enforced_spend_limit_reached"
	CodeContractCap      = "contract_spend_limit_reached"
	CodeRamp             = "ramp_limit_exceeded"
	CodeCustomerKey      = "cmek_key_unreachable" // the table matches every code that begins with cmek_
	CodeBodyTooLarge     = "request_body_too_large_after_decoding"
	CodeEgress           = "sandbox_egress_restricted"
)

// Codes gives the known error codes. Their order is fixed.
func Codes() []string {
	return []string{
		CodeCreatorLeft, CodeOnHold, CodeLinkedSpendLimit, CodeLinkedBilling, CodeBodyTooLarge, CodeRamp, CodeEnforcedCap, CodeContractCap,
		CodeCustomerKey, CodeEgress,
	}
}

// Types gives the known values of error.type, in order.
func Types() []string { return slices.Sorted(maps.Keys(statuses)) }

//nolint:gochecknoglobals // The table is constant.
var statuses = map[string]int{
	"invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403, "not_found_error": 404,
	"conflict_error": 409, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504, "overloaded_error": 529,
}
