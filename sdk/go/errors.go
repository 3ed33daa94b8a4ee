package cable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"cable.example/go/cablev1"
)

// Error is the failure of a call, a stream, a feed or a mirror. Every error of this package is an *Error; get it by
// [errors.As].
type Error struct {
	Code       codes.Code          // The status code of the server or, for failures on this side, the one that fits best.
	Reason     cablev1.ErrorReason // The reason that the server stated. Decide by it, not by the message.
	Message    string              // The description for people.
	Field      string              // The first invalid field of the request, such as `article.tags[3]`, or empty.
	Metadata   map[string]string   // Details of the reason, such as `etag` with ETAG_MISMATCH; see errors.proto.
	RetryAfter time.Duration       // The delay before a retry that the server requested, or 0.
	Endpoint   string              // The endpoint of the call, or empty if no call was made.

	cause          error
	mayHaveApplied bool
	unreached      bool // No server can have received the call.
	final          bool // Another attempt cannot help, whatever the code.
	token          int  // The number of the token that the call sent.
}

// Error returns the message with the endpoint, the field and the reason, as far as they are known.
func (e *Error) Error() string {
	text := e.Message
	if e.Field != "" && !strings.Contains(text, e.Field) {
		text = e.Field + ": " + text
	}
	if e.Reason != 0 {
		text += " (" + strings.TrimPrefix(e.Reason.String(), "ERROR_REASON_") + ")"
	}
	if e.Endpoint != "" {
		text = e.Endpoint + ": " + text
	}
	return "cable: " + text
}

// Retryable reports whether the same call may succeed later. The client has made all its attempts already.
func (e *Error) Retryable() bool { return e.Code == codes.Unavailable }

// MayHaveApplied reports whether the write may have been applied although the call failed. A retry with the same
// request id applies it at most once. It is false for reads.
func (e *Error) MayHaveApplied() bool { return e.mayHaveApplied }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus makes [status.Code] work.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// errSilent is the cause of a context that ends because a server does not respond.
var errSilent = errors.New("no response in time: the server or the connection hangs")

// toError returns the error of a call in this context. io.EOF is the end of a stream before its last message.
func toError(ctx context.Context, err error, endpoint string) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	received := status.Convert(err)
	if err == io.EOF {
		received = status.New(codes.Unavailable, "the server ended the stream early")
	} else if context.Cause(ctx) == errSilent {
		received = status.New(codes.Unavailable, errSilent.Error())
	} else if ctx.Err() != nil && (received.Code() == codes.Canceled || received.Code() == codes.Unknown) {
		err, received = ctx.Err(), status.FromContextError(ctx.Err())
	}
	e := &Error{Code: received.Code(), Message: received.Message(), Endpoint: endpoint, cause: err}
	for _, detail := range received.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == "cable.v1" {
				e.Reason = cablev1.ErrorReason(cablev1.ErrorReason_value["ERROR_REASON_"+detail.Reason])
				e.Metadata = detail.Metadata
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				e.Field = cmp.Or(e.Field, violation.Field)
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = detail.RetryDelay.AsDuration()
		}
	}
	return e
}

// newError returns an error of this side, which another attempt does not help.
func newError(code codes.Code, format string, arguments ...any) *Error {
	err := fmt.Errorf(format, arguments...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err), unreached: true, final: true}
}

// isInDoubt reports, for one attempt of a write, whether the server may have applied it. The server states a reason
// with every UNAVAILABLE, so one without a reason is a lost connection.
func (e *Error) isInDoubt() bool {
	isLost := e.Code == codes.Unavailable && (e.Reason == 0 || e.Reason == cablev1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN)
	return !e.unreached && (isLost || slices.Contains(doubtfulCodes, e.Code))
}

var doubtfulCodes = []codes.Code{codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal}
