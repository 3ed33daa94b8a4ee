package cable

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"iter"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"cable.example/go/cablev1"
)

const (
	maxAttempts      = 3
	firstWait        = 50 * time.Millisecond // After a first failure; it doubles with each further one.
	longestCallWait  = 2 * time.Second
	longestFeedWait  = 5 * time.Second
	longestRetryInfo = time.Minute
	ejection         = 5 * time.Second // The time for which calls avoid a node after a failure.
)

// endpoint is a node.
type endpoint struct {
	url          string
	conn         *grpc.ClientConn
	ejectedUntil time.Time
}

// pick returns a random node that works or, if none does, the one whose ejection ends first.
func (c *Client) pick() *endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	mathrand.Shuffle(len(c.endpoints), func(i, j int) { c.endpoints[i], c.endpoints[j] = c.endpoints[j], c.endpoints[i] })
	left := func(e *endpoint) time.Duration { return max(time.Until(e.ejectedUntil), 0) }
	best := slices.MinFunc(c.endpoints, func(a, b *endpoint) int { return cmp.Compare(left(a), left(b)) })
	best.conn.ResetConnectBackoff() // A connection that waits for its next attempt fails calls at once.
	return best
}

// report records the outcome of a call, or of a message of a stream, and returns its error.
func (c *Client) report(ctx context.Context, e *endpoint, token int, err error) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		e.ejectedUntil = time.Time{}
		return nil
	}
	failure := toError(ctx, err, e.url)
	failure.token = token
	isDraining := failure.Reason == cablev1.ErrorReason_ERROR_REASON_DRAINING
	if failure.Code == codes.Unavailable && (failure.Reason == 0 || isDraining) {
		e.ejectedUntil = time.Now().Add(ejection)
	}
	return failure
}

// reach makes one attempt on the first node that can be reached: the others have not received the call.
func (c *Client) reach(ctx context.Context, attempt func(ctx context.Context, e *endpoint, token int) *Error) *Error {
	for tried := 1; ; tried++ {
		token, number, err := c.credentials.get(ctx, 0)
		if err != nil {
			failure := toError(ctx, err, "")
			failure.unreached = true
			return failure
		}
		callCtx := ctx
		if number > 0 {
			callCtx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		failure := attempt(callCtx, c.pick(), number)
		if failure == nil || !failure.unreached || !failure.Retryable() || tried >= len(c.endpoints) || ctx.Err() != nil {
			return failure
		}
	}
}

// retry makes the attempts of a call.
func (c *Client) retry(ctx context.Context, attempt func(context.Context) *Error) error {
	isReplaced := false
	for failures := 1; ; failures++ {
		err := attempt(ctx)
		if err == nil {
			return nil
		} else if !isReplaced && !err.final && c.credentials.replace(ctx, err) {
			isReplaced = true
			failures--
		} else if failures == maxAttempts || !err.Retryable() || err.final || !sleep(ctx, wait(failures, longestCallWait, err)) {
			return err
		}
	}
}

// Invoke makes a call. It implements [grpc.ClientConnInterface] for the generated methods.
func (c *Client) Invoke(ctx context.Context, method string, request, response any, options ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	deadline, _ := ctx.Deadline()
	request, isWrite := withRequestID(request)
	attempts, isInDoubt := 0, false
	return c.retry(ctx, func(ctx context.Context) *Error {
		if attempts++; attempts < maxAttempts {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadlineCause(ctx, time.Now().Add(time.Until(deadline)/2), errSilent)
			defer cancel()
		}
		err := c.reach(ctx, func(ctx context.Context, e *endpoint, token int) *Error {
			var server peer.Peer
			err := e.conn.Invoke(ctx, method, request, response, append(options, grpc.Peer(&server))...)
			failure := c.report(ctx, e, token, err)
			if failure != nil {
				failure.unreached = server.Addr == nil
			}
			return failure
		})
		if err != nil {
			isInDoubt = isWrite && (err.isInDoubt() || isInDoubt && (err.unreached || err.Code == codes.Unavailable))
			err.mayHaveApplied = isInDoubt
		}
		return err
	})
}

// NewStream opens a stream on the first node that can be reached. It implements [grpc.ClientConnInterface]. The stream
// itself is not retried; [Client.Feed] and [Client.Articles] are.
func (c *Client) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	var opened *clientStream
	err := c.reach(ctx, func(ctx context.Context, e *endpoint, token int) *Error {
		stream, err := e.conn.NewStream(ctx, desc, method, options...)
		if err != nil {
			failure := c.report(ctx, e, token, err)
			failure.unreached = true
			return failure
		}
		opened = &clientStream{stream, func(err error) *Error { return c.report(ctx, e, token, err) }}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// clientStream is a stream whose failures are of type *Error and count for its node.
type clientStream struct {
	grpc.ClientStream
	report func(error) *Error
}

func (s *clientStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err == nil || err == io.EOF {
		return err
	}
	return s.report(err)
}

// withRequestID reports whether a request is a write: its type has a request id. If that is unset, it returns a copy
// with a random one.
func withRequestID(request any) (any, bool) {
	message, ok := request.(proto.Message)
	if !ok {
		return request, false
	}
	field := message.ProtoReflect().Descriptor().Fields().ByName("request_id")
	if field == nil || message.ProtoReflect().Has(field) {
		return request, field != nil
	}
	message = proto.Clone(message)
	message.ProtoReflect().Set(field, protoreflect.ValueOfString(rand.Text()))
	return message, true
}

// wait returns a random wait after failures in a row, at least as long as the server requested.
func wait(failures int, longest time.Duration, err *Error) time.Duration {
	wait := min(firstWait<<min(failures-1, 16), longest)
	return max(wait/2+mathrand.N(wait/2), min(err.RetryAfter, longestRetryInfo))
}

// sleep waits. It returns false, at once if possible, if the context ends before.
func sleep(ctx context.Context, wait time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// Pages returns an iterator over the pages of a listing, which ends after the last page or an error:
//
//	for page, err := range cable.Pages(ctx, client.ListArticles, &cablev1.ListArticlesRequest{}) {
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
			var message *cablev1.StreamArticlesResponse
			for err == nil && message.GetEnd() == nil {
				message, err = stream.Recv()
				for _, article := range message.GetArticles() {
					count++
					if isStopped = !yield(article, nil); isStopped {
						return nil
					}
				}
			}
			if end := message.GetEnd(); err == nil && (end.Count != count || end.Damage != nil) {
				return newError(codes.DataLoss, "incomplete: %d articles received of %d, unreadable: %v", count, end.Count, end.Damage)
			} else if err == nil {
				return nil
			}
			failure := toError(ctx, err, "")
			failure.final = failure.final || count > 0
			return failure
		})
		if err != nil && !isStopped {
			yield(nil, err)
		}
	}
}
