package cable

import (
	"context"
	"crypto/rand"
	"io"
	"iter"
	mathrand "math/rand/v2"
	"time"

	"cable.example/go/cablev1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	maxAttempts                                        = 3
	firstWait                                          = 50 * time.Millisecond // After a first failure; it doubles with each further one.
	longestCallWait, longestFeedWait, longestRetryInfo = 2 * time.Second, 5 * time.Second, time.Minute
)

// Invoke makes a call. It implements [grpc.ClientConnInterface] for the generated methods.
func (c *Client) Invoke(ctx context.Context, method string, request, response any, options ...grpc.CallOption) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(c.timeout)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	message := request.(proto.Message) // Those of generated clients are.
	field := message.ProtoReflect().Descriptor().Fields().ByName("request_id")
	isWrite := field != nil
	if isWrite && !message.ProtoReflect().Has(field) {
		message = proto.Clone(message)
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
		failure := toError(ctx, err)
		// The server states a reason with every refusal, and looks up the request id before it refuses a write.
		isUnknown := failure.Reason == 0 || failure.Reason == cablev1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN || failure.Code == codes.Internal
		isUnsettled := isUnknown || failure.Code == codes.Unavailable
		isInDoubt = isWrite && (isInDoubt && isUnsettled || isUnknown && server.Addr != nil)
		failure.token, failure.MayHaveApplied = token, isInDoubt
		return failure
	})
}

// NewStream opens a stream, which is not retried. It implements [grpc.ClientConnInterface].
func (c *Client) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	callCtx, token, err := c.authorize(ctx)
	if err != nil {
		return nil, toError(ctx, err)
	}
	stream, err := c.conn.NewStream(callCtx, desc, method, options...)
	if err != nil {
		return nil, toError(ctx, err)
	}
	return &clientStream{stream, ctx, token}, nil
}

// clientStream is a stream whose failures are of type *Error.
type clientStream struct {
	grpc.ClientStream
	ctx   context.Context
	token int
}

func (s *clientStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err != nil && err != io.EOF {
		failure := toError(s.ctx, err)
		failure.token, err = s.token, failure
	}
	return err
}

// authorize returns the context of an attempt, with the token, and the number of the token.
func (c *Client) authorize(ctx context.Context) (context.Context, int, error) {
	c.conn.ResetConnectBackoff() // A connection that waits for its next attempt fails calls at once.
	token, number, err := c.credentials.get(ctx, 0)
	if number == 0 {
		return ctx, 0, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), number, nil
}

// retry makes the attempts of a call.
func (c *Client) retry(ctx context.Context, attempt func(context.Context) *Error) error {
	isReplaced := false
	for failures := 1; ; failures++ {
		err := attempt(ctx)
		if err == nil {
			return nil
		} else if err.Code == codes.Unauthenticated && !isReplaced && !err.final && c.credentials.replace(ctx, err) {
			isReplaced, failures = true, failures-1
		} else if failures == maxAttempts || !err.Retryable || err.final || !sleep(ctx, wait(failures, longestCallWait, err)) {
			return err
		}
	}
}

// wait returns a random wait after failures in a row, at least as long as the server requested.
func wait(failures int, longest time.Duration, err *Error) time.Duration {
	wait := min(firstWait<<min(failures-1, 16), longest)
	return max(wait/2+mathrand.N(wait/2), min(err.RetryAfter, longestRetryInfo))
}

// sleep waits. It returns false if the context ends before.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	<-timer.Done()
	return ctx.Err() == nil
}

// Pages returns an iterator over the pages of a listing, as in cable.Pages(ctx, client.ListArticles, request). It ends
// after the last page or an error.
func Pages[Q proto.Message, R interface{ GetNextPageToken() string }](
	ctx context.Context, list func(context.Context, Q, ...grpc.CallOption) (R, error), request Q,
) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		request := proto.CloneOf(request)
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
			failure := toError(ctx, err)
			failure.final = failure.final || count > 0
			return failure
		})
		if err != nil {
			yield(nil, err)
		}
	}
}
