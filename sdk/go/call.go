package cable

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"iter"
	mathrand "math/rand/v2"
	"time"

	"cable.example/go/cablev1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const maxAttempts, firstWait = 3, 50 * time.Millisecond // The wait after a first failure doubles with each further one.
const longestCallWait, longestFeedWait, longestRetryInfo = 2 * time.Second, 5 * time.Second, time.Minute

// Invoke makes a call. It implements [grpc.ClientConnInterface] for the generated methods.
func (c *Client) Invoke(ctx context.Context, method string, request, response any, options ...grpc.CallOption) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(c.timeout)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	message := request.(proto.Message) // Those of generated clients are; those of writes have a request id.
	field := message.ProtoReflect().Descriptor().Fields().ByName("request_id")
	if field != nil && !message.ProtoReflect().Has(field) {
		message = copyOf(message)
		message.ProtoReflect().Set(field, protoreflect.ValueOfString(rand.Text()))
	}
	attempts, isInDoubt := 0, false
	return c.retry(ctx, func(ctx context.Context) *Error {
		if attempts++; attempts < maxAttempts {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadlineCause(ctx, time.Now().Add(time.Until(deadline)/2), errSilent)
			defer cancel()
		}
		callCtx, token, err := c.authorize(ctx)
		var server peer.Peer
		if err == nil {
			err = c.conn.Invoke(callCtx, method, message, response, append(options, grpc.Peer(&server))...)
		}
		if err == nil {
			return nil
		}
		failure := c.toError(ctx, err, message)
		// The server states a reason with every refusal, and looks up the request id before it refuses a write.
		isRefused := failure.Reason != 0 && failure.Reason != cablev1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN
		isUnknown := !isRefused && failure.Code != codes.InvalidArgument || failure.Code == codes.Internal
		isUnsettled := isUnknown || failure.Code == codes.Unavailable
		isInDoubt = field != nil && (isInDoubt && isUnsettled || isUnknown && server.Addr != nil)
		failure.token, failure.MayHaveApplied = token, isInDoubt
		return failure
	})
}

// NewStream opens a stream, which is not retried. It implements [grpc.ClientConnInterface].
func (c *Client) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	callCtx, token, err := c.authorize(ctx)
	convert := func(err error, sent proto.Message) error {
		if err == nil || err == io.EOF {
			return err
		}
		failure := c.toError(ctx, err, sent)
		failure.token = token
		return failure
	}
	if err != nil {
		return nil, convert(err, nil)
	}
	stream, err := c.conn.NewStream(callCtx, desc, method, options...)
	return &clientStream{stream, convert}, convert(err, nil)
}

// clientStream is a stream whose failures are of type *Error.
type clientStream struct {
	grpc.ClientStream
	convert func(err error, sent proto.Message) error
}

func (s *clientStream) SendMsg(message any) error {
	return s.convert(s.ClientStream.SendMsg(message), message.(proto.Message))
}
func (s *clientStream) RecvMsg(m any) error { return s.convert(s.ClientStream.RecvMsg(m), nil) }

// authorize returns the context of an attempt, with the token, and the number of the token.
func (c *Client) authorize(ctx context.Context) (context.Context, int, error) {
	if c.conn.GetState() == connectivity.TransientFailure { // Earlier, gRPC would change the list of connections meanwhile.
		c.conn.ResetConnectBackoff() // A connection that waits for its next attempt fails calls at once.
	}
	token, number, err := c.credentials.get(ctx, 0)
	if number == 0 {
		return ctx, 0, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), number, nil
}

// retry makes the attempts of a call.
func (c *Client) retry(ctx context.Context, attempt func(context.Context) *Error) error {
	isReplaced := false
	deadline, isBounded := ctx.Deadline()
	for failures := 1; ; failures++ {
		err := attempt(ctx)
		if err == nil {
			return nil
		} else if err.Code == codes.Unauthenticated && !isReplaced && !err.final && c.credentials.replace(ctx, err) {
			isReplaced, failures = true, failures-1
		} else if wait := wait(failures, longestCallWait, err); failures == maxAttempts || err.Code != codes.Unavailable || err.final ||
			isBounded && time.Until(deadline) <= err.RetryAfter || !c.sleep(ctx, wait) {
			failure := c.toError(ctx, err, nil)
			failure.cause = errors.Join(ctx.Err(), failure.cause)
			return failure
		}
	}
}

// wait returns a random wait after failures in a row, at least as long as the server requested.
func wait(failures int, longest time.Duration, err *Error) time.Duration {
	wait := min(firstWait<<min(failures-1, 16), longest)
	return max(wait/2+mathrand.N(wait/2), min(err.RetryAfter, longestRetryInfo))
}

// sleep waits. It returns false if the context ends or the client is closed before.
func (c *Client) sleep(ctx context.Context, wait time.Duration) bool {
	timer, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(c.closed, cancel)()
	<-timer.Done()
	return ctx.Err() == nil && c.closed.Err() == nil
}

// copyOf returns a copy of a message, and of a nil one an empty message, as gRPC sends it.
func copyOf[M proto.Message](message M) M {
	copied := message.ProtoReflect().New().Interface().(M)
	proto.Merge(copied, message)
	return copied
}

// Pages returns an iterator over the pages of a listing, as in cable.Pages(ctx, client.ListArticles, request).
func Pages[Q proto.Message, R interface{ GetNextPageToken() string }](
	ctx context.Context, list func(context.Context, Q, ...grpc.CallOption) (R, error), request Q,
) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		request := copyOf(request)
		field := request.ProtoReflect().Descriptor().Fields().ByName("page_token")
		for {
			page, err := list(ctx, request)
			if !yield(page, err) || err != nil || page.GetNextPageToken() == "" {
				return
			}
			request.ProtoReflect().Set(field, protoreflect.ValueOfString(page.GetNextPageToken()))
		}
	}
}

// Articles returns an iterator over all articles that match the filter of a request, in one stream. They are complete
// only if the iterator ends without an error. A stream that fails before its first article is retried.
func (c *Client) Articles(ctx context.Context, request *cablev1.StreamArticlesRequest) iter.Seq2[*cablev1.Article, error] {
	return func(yield func(*cablev1.Article, error) bool) {
		count, isStopped := int64(0), false
		err := c.retry(ctx, func(ctx context.Context) *Error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := c.StreamArticles(ctx, request)
			for err == nil {
				var message *cablev1.StreamArticlesResponse
				message, err = stream.Recv()
				for _, article := range message.GetArticles() {
					count++
					if isStopped = !yield(article, nil); isStopped {
						return nil
					}
				}
				if end := message.GetEnd(); end != nil && end.Count == count && end.Damage == nil {
					return nil
				} else if end != nil {
					return newError(codes.DataLoss, "incomplete: %d articles of %d, unreadable: %v", count, end.Count, end.Damage)
				}
			}
			failure := c.toError(ctx, err, nil)
			failure.final = failure.final || count > 0
			return failure
		})
		if err != nil {
			yield(nil, err)
		}
	}
}
