package cable_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	cable "cable.example/go"
	"cable.example/go/cabletest"
	"cable.example/go/cablev1"
)

func TestAFeedOfAnIdleLogSurvivesEachRotationOfItsToken(t *testing.T) {
	refused := []any{checkpoint(1), refusal(codes.Unauthenticated, "UNAUTHENTICATED")}
	service := &scripted{streams: [][]any{refused, refused, refused, {changes(at(2), 2)}}}
	endpoint := listen(t, func(server *grpc.Server) { cablev1.RegisterFeedServiceServer(server, service) })
	reads := 0
	token := func(context.Context) (string, error) { reads++; return fmt.Sprint("token", reads), nil }
	client, err := cable.New(cable.Config{Endpoints: []string{endpoint}, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	follow(t, client.Feed(testContext(t), nil, cable.FeedOptions{})).until("changes 2")
	service.assertStarts(t, "now 1 1 1")
}

func TestACheckpointOfAnIdleLogRestartsTheCountOfFaults(t *testing.T) {
	faulty := []any{checkpoint(1), refusal(codes.Internal, "INTERNAL")}
	_, client := serve(t, faulty, faulty, faulty, faulty, faulty, faulty, []any{changes(at(2), 2)})
	follow(t, client.Feed(testContext(t), nil, cable.FeedOptions{})).until("changes 2")
}

func TestTheLimitOfACommitAppliesToEachCommitInAMessage(t *testing.T) {
	commits := changes(at(4), 1, 2, 3, 4)
	for i, change := range commits.GetChanges().Changes {
		change.Time = &timestamppb.Timestamp{Seconds: int64(i / 2)}
	}
	limit := 2 * proto.Size(commits.GetChanges().Changes[3])
	_, client := serve(t, []any{commits}, []any{commits})
	follow(t, client.Feed(testContext(t), nil, cable.FeedOptions{MaxCommitBytes: limit})).until("changes 1 2 3 4")
	feed := follow(t, client.Feed(testContext(t), nil, cable.FeedOptions{MaxCommitBytes: limit - 1}))
	assertEqual(t, strings.Contains(feed.receive(), "commit above MaxCommitBytes"), true)
}

func TestANodeThatDoesNotRespondInTimeIsAvoided(t *testing.T) {
	stopped, server := cabletest.Start(t), cabletest.Start(t)
	config := cable.Config{Endpoints: []string{stopped.Endpoint(), server.Endpoint()}, Timeout: 4 * time.Second}
	client := server.ClientWith(config)
	assertReached := func(endpoints int) {
		t.Helper()
		slow := 0
		for range 12 {
			start := time.Now()
			if _, err := client.GetStatus(t.Context(), &cablev1.GetStatusRequest{}); err != nil {
				t.Fatal(err)
			}
			if time.Since(start) > 1500*time.Millisecond {
				slow++
			}
		}
		assertEqual(t, slow, endpoints)
	}
	time.Sleep(500 * time.Millisecond) // Both connections open.
	assertReached(0)
	stopped.Signal(syscall.SIGSTOP)
	assertReached(1) // One call waits for half of its deadline, and the others go to the other node.
}

// throttled refuses calls with a delay.
type throttled struct {
	cablev1.UnimplementedStatusServiceServer
	calls atomic.Int64
}

func (s *throttled) GetStatus(context.Context, *cablev1.GetStatusRequest) (*cablev1.GetStatusResponse, error) {
	s.calls.Add(1)
	info := &errdetails.ErrorInfo{Domain: "cable.v1", Reason: "RATE_LIMITED"}
	refused, err := status.New(codes.ResourceExhausted, "refused").WithDetails(info, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)})
	if err != nil {
		return nil, err
	}
	return nil, refused.Err()
}

func TestACallThatMaySucceedLaterIsRetryable(t *testing.T) {
	service := &throttled{}
	client := serveWith(t, func(server *grpc.Server) { cablev1.RegisterStatusServiceServer(server, service) })
	_, err := client.GetStatus(testContext(t), &cablev1.GetStatusRequest{})
	failure := asError(t, err)
	assertEqual(t, failure.Reason, cablev1.ErrorReason_ERROR_REASON_RATE_LIMITED)
	assertEqual(t, failure.Retryable, true)
	assertEqual(t, service.calls.Load(), int64(1)) // The client itself repeats only what no node could serve.
	server := cabletest.Start(t)
	client = server.Client()
	put(t, client, article("storm", "Storm"))
	server.Signal(syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(testContext(t), 500*time.Millisecond)
	defer cancel()
	_, err = client.GetArticle(ctx, &cablev1.GetArticleRequest{Name: "articles/storm"})
	assertEqual(t, asError(t, err).Retryable, true)
}

func TestAWriteThatWasNotSentWasNotApplied(t *testing.T) {
	server := cabletest.Start(t)
	request := &cablev1.PutArticleRequest{Article: article("storm", "Storm")}
	hang := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	client := server.ClientWith(cable.Config{Token: hang, Timeout: 500 * time.Millisecond})
	_, err := client.PutArticle(t.Context(), request)
	assertEqual(t, asError(t, err).MayHaveApplied, false)
	client = server.Client()
	put(t, client, article("flood", "Flood")) // The limit of the headers is known once the connection is open.
	for _, bytes := range []int{20_000, 200_000} {
		ctx := metadata.AppendToOutgoingContext(testContext(t), "note", strings.Repeat("x", bytes))
		_, err = client.PutArticle(ctx, request)
		assertEqual(t, asError(t, err).MayHaveApplied, false)
	}
	if _, err = client.GetArticle(t.Context(), &cablev1.GetArticleRequest{Name: "articles/storm"}); err == nil {
		t.Fatal("applied")
	}
}

func TestAPositionFileCanBeALinkAndIsNoPipe(t *testing.T) {
	directory, ctx := t.TempDir(), testContext(t)
	store := cable.FilePosition(filepath.Join(directory, "link"))
	for _, link := range [][2]string{{"other", "link"}, {"data/position", "other"}} {
		if err := os.Symlink(link[0], filepath.Join(directory, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(directory, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	position := &cablev1.Position{LogId: "0123abcd", Revision: 7, Chain: []byte{0, 255}}
	for range 2 { // The target does not exist at first.
		if err := store.Save(ctx, position); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"link", "data/position"} {
		loaded, err := cable.FilePosition(filepath.Join(directory, path)).Load(ctx)
		assertEqual(t, err == nil && proto.Equal(loaded, position), true)
	}
	target, err := os.Readlink(string(store))
	assertEqual(t, err == nil && target == "other", true)
	pipe := filepath.Join(directory, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	err = within(t, func() error { _, err := cable.FilePosition(pipe).Load(ctx); return err })
	assertEqual(t, err != nil && strings.HasPrefix(err.Error(), pipe), true)
}
