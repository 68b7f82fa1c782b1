package simulator

import (
	"encoding/json"
	"time"
)

// apiError is a refusal in the provider's shape.
type apiError struct {
	status     int
	kind       string
	errorCode  string
	message    string
	retryAfter time.Duration
}

func (e *apiError) code(c string) *apiError { e.errorCode = c; return e }

func invalid(msg string) *apiError {
	return &apiError{status: 400, kind: "invalid_request_error", message: msg}
}

func unauthenticated(msg string) *apiError {
	return &apiError{status: 401, kind: "authentication_error", message: msg}
}

func forbidden(msg string) *apiError {
	return &apiError{status: 403, kind: "permission_error", message: msg}
}

func notFound(msg string) *apiError {
	return &apiError{status: 404, kind: "not_found_error", message: msg}
}

type errorBody struct {
	Type      string      `json:"type"`
	Error     errorDetail `json:"error"`
	RequestID string      `json:"request_id,omitempty"`
}

type errorDetail struct {
	Type    string       `json:"type"`
	Message string       `json:"message"`
	Details *errorReason `json:"details,omitempty"`
}

type errorReason struct {
	ErrorCode string `json:"error_code"`
}

func (e *apiError) body(requestID string) []byte {
	b := errorBody{Type: "error", RequestID: requestID, Error: errorDetail{Type: e.kind, Message: e.message}}
	if e.errorCode != "" {
		b.Error.Details = &errorReason{ErrorCode: e.errorCode}
	}
	out, err := json.Marshal(b)
	if err != nil {
		// Strings always marshal.
		panic(err)
	}
	return out
}
