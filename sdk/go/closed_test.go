package cable_test

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	cable "cable.example/go"
	"cable.example/go/cabletest"
	"cable.example/go/cablev1"
)

// within returns the result of a function that must not take longer than ten seconds.
func within[T any](t *testing.T, run func() T) T {
	t.Helper()
	result := make(chan T, 1)
	go func() { result <- run() }()
	select {
	case value := <-result:
		return value
	case <-time.After(10 * time.Second):
		t.Fatal("no result within 10 s")
		panic("unreachable")
	}
}

// last returns the error with which an iterator ends.
func last[V any](sequence iter.Seq2[V, error]) (err error) {
	for _, err = range sequence {
	}
	return err
}

func assertClosed(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, cable.ErrClosed) {
		t.Fatalf("not ErrClosed: %v", err)
	}
	failure := asError(t, err)
	assertEqual(t, failure.Code, codes.Canceled)
	assertEqual(t, failure.Retryable, false)
}

func TestAClosedClientEndsItsFeedsMirrorsAndCalls(t *testing.T) {
	client := cabletest.Start(t).Client()
	ctx := testContext(t)
	var isClosed atomic.Bool
	var retries atomic.Int64
	options := cable.FeedOptions{OnRetry: func(error) {
		if isClosed.Load() {
			retries.Add(1)
		}
	}}
	mirror := client.Mirror(ctx, storm(), options)
	if err := mirror.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	changes := mirror.Changes(ctx)
	ended, started := make(chan error, 1), make(chan struct{}, 100)
	go func() {
		var err error
		for _, err = range client.Feed(ctx, storm(), options) {
			started <- struct{}{}
		}
		ended <- err
	}()
	<-started
	slow := make(chan error, 1)
	go func() {
		request := &cablev1.GetArticleRequest{Name: "articles/a", Freshness: &cablev1.Freshness{
			AtLeastRevision: 1 << 40, MaxWait: durationpb.New(10 * time.Second),
		}}
		_, err := client.GetArticle(ctx, request)
		slow <- err
	}()
	time.Sleep(300 * time.Millisecond) // The call waits for its response.
	isClosed.Store(true)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	assertClosed(t, within(t, func() error { return <-ended }))
	assertClosed(t, within(t, func() error { return <-slow }))
	assertClosed(t, within(t, func() error { return last(changes) }))
	assertClosed(t, mirror.Ready(ctx))
	// What begins after Close fails, too.
	assertClosed(t, within(t, func() error { return last(client.Feed(ctx, storm(), options)) }))
	assertClosed(t, within(t, func() error { return client.Mirror(ctx, storm(), options).Ready(ctx) }))
	assertClosed(t, within(t, func() error { return last(client.Articles(ctx, &cablev1.StreamArticlesRequest{})) }))
	_, err := client.PutArticle(ctx, &cablev1.PutArticleRequest{Article: article("a", "A")})
	assertClosed(t, err)
	assertEqual(t, asError(t, err).MayHaveApplied, false)
	_, err = cablev1.NewFeedServiceClient(client).Watch(ctx, storm())
	assertClosed(t, err)
	assertEqual(t, retries.Load(), 0)
}

func TestCloseEndsTheWaitBeforeARetry(t *testing.T) {
	service, client := refuse(t, time.Minute)
	failed := make(chan struct{}, 10)
	feed := client.Feed(testContext(t), storm(), cable.FeedOptions{OnRetry: func(error) { failed <- struct{}{} }})
	ended := make(chan error, 2)
	go func() { ended <- last(feed) }()
	go func() {
		_, err := client.GetStatus(testContext(t), &cablev1.GetStatusRequest{})
		ended <- err
	}()
	<-failed
	for service.calls.Load() == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	client.Close()
	for range 2 {
		err := within(t, func() error { return <-ended })
		if !errors.Is(err, cable.ErrClosed) && asError(t, err).Reason != cablev1.ErrorReason_ERROR_REASON_OVERLOADED {
			t.Fatal(err)
		}
	}
}

// refusing is a node that refuses all calls and requests a wait before a retry.
type refusing struct {
	cablev1.UnimplementedStatusServiceServer
	wait  time.Duration
	calls atomic.Int64
}

func (r *refusing) refuse() error {
	refused, err := status.New(codes.Unavailable, "refused").WithDetails(
		&errdetails.ErrorInfo{Domain: "cable.v1", Reason: "OVERLOADED"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(r.wait)},
	)
	if err != nil {
		panic(err)
	}
	return refused.Err()
}

func (r *refusing) GetStatus(context.Context, *cablev1.GetStatusRequest) (*cablev1.GetStatusResponse, error) {
	r.calls.Add(1)
	return nil, r.refuse()
}

func refuse(t *testing.T, wait time.Duration) (*refusing, *cable.Client) {
	t.Helper()
	service := &refusing{wait: wait}
	return service, serveWith(t, func(server *grpc.Server) {
		cablev1.RegisterStatusServiceServer(server, service)
		cablev1.RegisterFeedServiceServer(server, &scripted{streams: [][]any{{service.refuse()}}})
	})
}

func TestARequestedWaitBeyondTheDeadlineFailsAtOnce(t *testing.T) {
	for _, wait := range []time.Duration{30 * time.Second, 5 * time.Minute} {
		service, client := refuse(t, wait)
		ctx, cancel := context.WithTimeout(testContext(t), 20*time.Second)
		start := time.Now()
		_, err := client.GetStatus(ctx, &cablev1.GetStatusRequest{})
		cancel()
		assertEqual(t, asError(t, err).RetryAfter, wait)
		assertEqual(t, service.calls.Load(), 1)
		if spent := time.Since(start); spent > 10*time.Second {
			t.Fatalf("failed after %v", spent)
		}
	}
}

func TestAnExpiredOrCancelledContextIsTheCause(t *testing.T) {
	client := cabletest.Start(t).Client()
	request := &cablev1.GetArticleRequest{Name: "articles/a", Freshness: &cablev1.Freshness{
		AtLeastRevision: 1 << 40, MaxWait: durationpb.New(10 * time.Second),
	}}
	ctx, cancel := context.WithTimeout(testContext(t), 300*time.Millisecond)
	defer cancel()
	_, err := client.GetArticle(ctx, request)
	assertEqual(t, errors.Is(err, context.DeadlineExceeded), true)
	<-ctx.Done()
	_, err = client.GetStatus(ctx, &cablev1.GetStatusRequest{}) // The context has expired before the call.
	assertEqual(t, errors.Is(err, context.DeadlineExceeded), true)
	for _, err := range client.Articles(ctx, &cablev1.StreamArticlesRequest{}) {
		assertEqual(t, errors.Is(err, context.DeadlineExceeded), true)
	}
	cancelled, stop := context.WithCancel(testContext(t))
	stop()
	_, err = client.GetStatus(cancelled, &cablev1.GetStatusRequest{})
	assertEqual(t, errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded), true)
}

func TestANilRequestIsAnEmptyOne(t *testing.T) {
	client := cabletest.Start(t).Client()
	ctx := testContext(t)
	for range 2 {
		put(t, client, article("a", "A"))
	}
	_, err := client.PutArticle(ctx, nil)
	assertEqual(t, asError(t, err).Reason, cablev1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	_, err = client.Commit(ctx, nil)
	assertEqual(t, asError(t, err).Code, codes.InvalidArgument)
	_, err = client.GetArticle(ctx, nil)
	assertEqual(t, asError(t, err).Code, codes.InvalidArgument)
	for page, err := range cable.Pages(ctx, client.ListArticles, nil) {
		assertEqual(t, err == nil && len(page.Articles) == 1, true)
	}
	for article, err := range client.Articles(ctx, nil) {
		assertEqual(t, err == nil && article.Name == "articles/a", true)
	}
}

func TestARequestThatCannotBeEncodedIsRefusedBeforeItIsSent(t *testing.T) {
	client := cabletest.Start(t).Client()
	ctx := testContext(t)
	_, err := client.PutArticle(ctx, &cablev1.PutArticleRequest{Article: article("a", "\xff")})
	assertEqual(t, asError(t, err).Code, codes.InvalidArgument)
	assertEqual(t, asError(t, err).MayHaveApplied, false)
	filter := &cablev1.FeedFilter{AnyTags: []string{"tags/\xff"}}
	options := cable.FeedOptions{OnRetry: func(err error) { t.Errorf("retry after %v", err) }}
	err = within(t, func() error { return last(client.Feed(ctx, &cablev1.WatchRequest{Filter: filter}, options)) })
	assertEqual(t, asError(t, err).Code, codes.InvalidArgument)
	for _, err := range client.Articles(ctx, &cablev1.StreamArticlesRequest{Filter: &cablev1.ArticleFilter{AllTags: []string{"\xff"}}}) {
		assertEqual(t, asError(t, err).Code, codes.InvalidArgument)
	}
}
