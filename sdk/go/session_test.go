package cable_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cable "cable.example/go"
	"cable.example/go/cablev1"
)

// scripted is a feed service that sends given messages, for what a real node does rarely or only after minutes.
type scripted struct {
	cablev1.UnimplementedFeedServiceServer
	mu      sync.Mutex
	streams [][]any // Of each stream: messages, an error at its end, or nothing, after which it stays open.
	starts  []string
}

func (s *scripted) Watch(request *cablev1.WatchRequest, stream grpc.ServerStreamingServer[cablev1.WatchResponse]) error {
	s.mu.Lock()
	start := "now"
	if request.GetAfter() != nil {
		start = fmt.Sprint(request.GetAfter().Revision)
	} else if request.GetSnapshot() {
		start = "snapshot"
	}
	s.starts = append(s.starts, start)
	var script []any
	if len(s.streams) > 0 {
		script, s.streams = s.streams[0], s.streams[1:]
	}
	s.mu.Unlock()
	for _, item := range script {
		switch item := item.(type) {
		case *cablev1.WatchResponse:
			if err := stream.Send(item); err != nil {
				return err
			}
		case error:
			return item
		}
	}
	<-stream.Context().Done()
	return nil
}

func (s *scripted) assertStarts(t *testing.T, starts string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	assertEqual(t, strings.Join(s.starts, " "), starts)
}

// serve starts a server with one script for each stream.
func serve(t *testing.T, streams ...[]any) (*scripted, *cable.Client) {
	t.Helper()
	service := &scripted{streams: streams}
	return service, serveWith(t, func(server *grpc.Server) { cablev1.RegisterFeedServiceServer(server, service) })
}

// serveWith starts a server with the services that register adds, and returns a client of it.
func serveWith(t *testing.T, register func(*grpc.Server)) *cable.Client {
	t.Helper()
	client, err := cable.New(cable.Config{Endpoints: []string{listen(t, register)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// listen starts a server with the services that register adds, and returns its endpoint.
func listen(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return "http://" + listener.Addr().String()
}

func refusal(code codes.Code, reason string) error {
	refused, err := status.New(code, "refused").WithDetails(&errdetails.ErrorInfo{Domain: "cable.v1", Reason: reason})
	if err != nil {
		panic(err)
	}
	return refused.Err()
}

func at(revision int64) *cablev1.Position {
	return &cablev1.Position{LogId: "0123abcd", Revision: revision}
}

func upsert(revision int64) *cablev1.FeedChange {
	record := &cablev1.Record{Record: &cablev1.Record_Article{Article: article(fmt.Sprint(revision), "Headline")}}
	return &cablev1.FeedChange{Revision: revision, Change: &cablev1.FeedChange_Upsert{Upsert: record}}
}

func changes(position *cablev1.Position, revisions ...int64) *cablev1.WatchResponse {
	event := &cablev1.FeedChanges{MoreFollows: position == nil}
	for _, revision := range revisions {
		event.Changes = append(event.Changes, upsert(revision))
	}
	return &cablev1.WatchResponse{Position: position, Event: &cablev1.WatchResponse_Changes{Changes: event}}
}

func checkpoint(revision int64) *cablev1.WatchResponse {
	return &cablev1.WatchResponse{Position: at(revision), Event: &cablev1.WatchResponse_Checkpoint{Checkpoint: &cablev1.FeedCheckpoint{}}}
}

func reset(reason cablev1.FeedResetReason) *cablev1.WatchResponse {
	return &cablev1.WatchResponse{Event: &cablev1.WatchResponse_Reset_{Reset_: &cablev1.FeedReset{Reason: reason}}}
}

func part(revisions ...int64) *cablev1.WatchResponse {
	event := &cablev1.FeedSnapshot{}
	for _, revision := range revisions {
		event.Records = append(event.Records, upsert(revision).GetUpsert())
	}
	return &cablev1.WatchResponse{Event: &cablev1.WatchResponse_Snapshot{Snapshot: event}}
}

func snapshotEnd(revision, count int64) *cablev1.WatchResponse {
	event := &cablev1.FeedSnapshotEnd{Count: count}
	return &cablev1.WatchResponse{Position: at(revision), Event: &cablev1.WatchResponse_SnapshotEnd{SnapshotEnd: event}}
}

func TestPartsOfACommitAreAppliedAsOne(t *testing.T) {
	gone := status.Error(codes.Unavailable, "gone")
	service, client := serve(t,
		[]any{changes(at(1), 1), changes(nil, 2, 3), gone}, // The commit breaks off, and comes again.
		[]any{changes(nil, 2, 3), changes(nil, 4), changes(at(5), 5), changes(nil, 6), changes(at(7))},
	)
	feed := follow(t, client.Feed(testContext(t), nil, cable.FeedOptions{}))
	feed.until("changes 1", "changes 2 3 4 5", "changes 6")
	assertEqual(t, feed.position.Revision, int64(7))
	service.assertStarts(t, "now 1")
}

func TestACommitAboveTheLimitEndsTheFeed(t *testing.T) {
	_, client := serve(t, []any{changes(nil, 1, 2), changes(nil, 3, 4), changes(at(5), 5)})
	feed := follow(t, client.Feed(testContext(t), nil, cable.FeedOptions{MaxCommitBytes: 100}))
	assertEqual(t, strings.Contains(feed.receive(), "commit above MaxCommitBytes"), true)
}

func TestACompactedPositionResetsTheFeedAndABrokenSnapshotRestarts(t *testing.T) {
	service, client := serve(t,
		[]any{changes(at(7), 7), refusal(codes.Unavailable, "DRAINING")},
		[]any{changes(nil, 8), reset(cablev1.FeedResetReason_FEED_RESET_REASON_COMPACTED), part(1), status.Error(codes.Unavailable, "gone")},
		[]any{part(1, 2), snapshotEnd(20, 3)}, // Not complete.
		[]any{part(1, 2), part(3), snapshotEnd(20, 3), changes(at(21), 21), checkpoint(21)},
	)
	store := &cable.MemoryPosition{}
	request := &cablev1.WatchRequest{AllowReset: true}
	feed := follow(t, client.Feed(testContext(t), request, cable.FeedOptions{Store: store}))
	feed.until("changes 7", "reset COMPACTED", "snapshot 1", "reset UNSPECIFIED", "snapshot 2", "reset UNSPECIFIED")
	saved, _ := store.Load(testContext(t))
	assertEqual(t, saved.GetRevision(), int64(7)) // No position of an incomplete snapshot is saved.
	feed.until("snapshot 2", "snapshot 1", "end 3", "changes 21", "checkpoint")
	service.assertStarts(t, "now 7 snapshot snapshot")
}

func TestChangesThatWereDeliveredDoNotComeAgain(t *testing.T) {
	_, client := serve(t,
		[]any{changes(at(2), 1, 2), status.Error(codes.Unavailable, "gone")},
		[]any{changes(at(2), 1, 2), changes(at(3), 2, 3)},
	)
	feed := follow(t, client.Feed(testContext(t), nil, cable.FeedOptions{}))
	feed.until("changes 1 2", "changes 3")
}

func TestErrorsThatARetryCannotHelpEndTheFeed(t *testing.T) {
	for _, refused := range []struct {
		code   codes.Code
		reason string
	}{
		{codes.OutOfRange, "REVISION_COMPACTED"}, {codes.FailedPrecondition, "LOG_CHANGED"},
		{codes.InvalidArgument, "FIELD_INVALID"}, {codes.Unauthenticated, "UNAUTHENTICATED"},
		{codes.PermissionDenied, "ROLE_REQUIRED"}, {codes.Unimplemented, "INTERNAL"},
	} {
		service, client := serve(t, []any{refusal(refused.code, refused.reason)})
		feed := follow(t, client.Feed(testContext(t), nil, cable.FeedOptions{}))
		assertEqual(t, strings.HasSuffix(feed.receive(), "refused ("+refused.reason+")"), true)
		assertEqual(t, feed.receive(), "end")
		service.assertStarts(t, "now")
	}
}

func TestOtherErrorsAreRetried(t *testing.T) {
	for _, refused := range []struct {
		code   codes.Code
		reason string
	}{
		{codes.Unavailable, "NOT_CAUGHT_UP"}, {codes.Unavailable, "STORE_FAILED"}, {codes.Unavailable, "DRAINING"},
		{codes.ResourceExhausted, "TOO_MANY_FEEDS"}, {codes.ResourceExhausted, "RATE_LIMITED"}, {codes.Internal, "INTERNAL"},
	} {
		_, client := serve(t, []any{refusal(refused.code, refused.reason)}, []any{changes(at(1), 1)})
		follow(t, client.Feed(testContext(t), nil, cable.FeedOptions{})).until("changes 1")
	}
}

func TestFiveServerFaultsInARowEndTheFeed(t *testing.T) {
	fault := []any{refusal(codes.DataLoss, "RECORD_CORRUPT")}
	progress := []any{changes(at(1), 1), refusal(codes.DataLoss, "RECORD_CORRUPT")}
	service, client := serve(t, fault, fault, progress, fault, fault, fault, fault)
	feed := follow(t, client.Feed(testContext(t), nil, cable.FeedOptions{}))
	feed.until("changes 1")
	assertEqual(t, strings.HasSuffix(feed.receive(), "(RECORD_CORRUPT)"), true)
	service.assertStarts(t, "now now now 1 1 1 1")
}
