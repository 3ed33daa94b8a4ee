package cable_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cable "cable.example/go"
	"cable.example/go/cabletest"
	"cable.example/go/cablev1"
)

func TestAnArticleIsWrittenAndRead(t *testing.T) {
	client := cabletest.Start(t).Client()
	ctx := testContext(t)
	written := put(t, client, article("storm", "Storm", "weather"))
	assertEqual(t, written.Result.Changed, true)
	read, err := client.GetArticle(ctx, &cablev1.GetArticleRequest{Name: "articles/storm"})
	if err != nil {
		t.Fatal(err)
	}
	assertEqual(t, read.Article.Headline, "Storm")
	assertEqual(t, read.Article.Etag, written.Result.Etag)
}

func TestErrorsHaveReasonFieldAndCode(t *testing.T) {
	client := cabletest.Start(t).Client()
	ctx := testContext(t)
	_, err := client.GetArticle(ctx, &cablev1.GetArticleRequest{Name: "articles/none"})
	failure := asError(t, fmt.Errorf("wrapped: %w", err))
	assertEqual(t, failure.Reason, cablev1.ErrorReason_ERROR_REASON_ARTICLE_NOT_FOUND)
	assertEqual(t, status.Code(err), codes.NotFound)
	assertEqual(t, failure.Retryable || failure.MayHaveApplied, false)
	_, err = client.PutArticle(ctx, &cablev1.PutArticleRequest{Article: &cablev1.Article{Name: "articles/none"}})
	failure = asError(t, err)
	assertEqual(t, failure.Field, "article.headline")
	assertEqual(t, failure.Reason, cablev1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	assertEqual(t, failure.MayHaveApplied, false)
	put(t, client, article("storm", "Storm"))
	_, err = client.PutArticle(ctx, &cablev1.PutArticleRequest{
		Article:      article("storm", "Storm"),
		Precondition: &cablev1.Precondition{Condition: &cablev1.Precondition_MustBeAbsent{MustBeAbsent: true}},
	})
	failure = asError(t, err)
	assertEqual(t, failure.Reason, cablev1.ErrorReason_ERROR_REASON_NAME_EXISTS)
	assertEqual(t, failure.Metadata["etag"] != "", true)
}

func TestARequestIDIsKeptAndNotAddedToTheCallersRequest(t *testing.T) {
	client := cabletest.Start(t).Client()
	ctx := testContext(t)
	request := &cablev1.PutArticleRequest{Article: article("storm", "Storm")}
	if _, err := client.PutArticle(ctx, request); err != nil {
		t.Fatal(err)
	}
	assertEqual(t, request.RequestId, "")
	request.RequestId = "storm-1"
	request.Article.Headline = "Storm passes"
	first, err := client.PutArticle(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	put(t, client, article("storm", "Calm"))
	// The same request again has the first outcome and changes nothing.
	again, err := client.PutArticle(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	assertEqual(t, again.Result.Revision, first.Result.Revision)
	request.Article.Headline = "Another request"
	_, err = client.PutArticle(ctx, request)
	assertEqual(t, asError(t, err).Reason, cablev1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED)
}

func TestPagesAndStreamReturnEveryArticleOnce(t *testing.T) {
	client := cabletest.Start(t).Client()
	ctx := testContext(t)
	for i := range 7 {
		put(t, client, article(fmt.Sprintf("a%d", i), "Headline", "storm"))
	}
	put(t, client, article("other", "Headline"))
	filter := &cablev1.ArticleFilter{AllTags: []string{"tags/storm"}}
	var listed, streamed []*cablev1.Article
	pages := 0
	for page, err := range cable.Pages(ctx, client.ListArticles, &cablev1.ListArticlesRequest{Filter: filter, PageSize: 3}) {
		if err != nil {
			t.Fatal(err)
		}
		pages++
		listed = append(listed, page.Articles...)
	}
	for article, err := range client.Articles(ctx, &cablev1.StreamArticlesRequest{Filter: filter}) {
		if err != nil {
			t.Fatal(err)
		}
		streamed = append(streamed, article)
	}
	assertEqual(t, names(listed), "a0 a1 a2 a3 a4 a5 a6")
	assertEqual(t, names(streamed), "a0 a1 a2 a3 a4 a5 a6")
	assertEqual(t, pages >= 3, true)
	for _, err := range cable.Pages(ctx, client.ListArticles, &cablev1.ListArticlesRequest{PageToken: "none"}) {
		assertEqual(t, asError(t, err).Reason, cablev1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID)
	}
	for _, err := range client.Articles(ctx, &cablev1.StreamArticlesRequest{MaxArticles: -1}) {
		assertEqual(t, asError(t, err).Field, "max_articles")
	}
}

func TestADeadNodeIsPassedOver(t *testing.T) {
	server := cabletest.Start(t)
	dead := "http://" + unusedAddress(t)
	client := server.ClientWith(cable.Config{Endpoints: []string{dead, server.Endpoint()}})
	for i := range 10 {
		put(t, client, article(fmt.Sprintf("a%d", i), "Headline"))
	}
	client = server.ClientWith(cable.Config{Endpoints: []string{dead}})
	_, err := client.PutArticle(testContext(t), &cablev1.PutArticleRequest{Article: article("storm", "Storm")})
	failure := asError(t, err)
	assertEqual(t, failure.Code, codes.Unavailable)
	assertEqual(t, failure.Retryable, true)
	assertEqual(t, failure.MayHaveApplied, false)
	assertEqual(t, strings.Contains(failure.Message, strings.TrimPrefix(dead, "http://")), true)
}

func TestASilentNodeNeitherHangsACallNorUsesUpItsDeadline(t *testing.T) {
	silent, server := cabletest.Start(t), cabletest.Start(t)
	warm := silent.Client()
	put(t, warm, article("storm", "Storm"))
	silent.Signal(syscall.SIGSTOP)
	// On a connection that was open before, the call fails within its deadline, and its outcome is unknown.
	ctx, cancel := context.WithTimeout(testContext(t), 2*time.Second)
	defer cancel()
	_, err := warm.PutArticle(ctx, &cablev1.PutArticleRequest{Article: article("flood", "Flood")})
	failure := asError(t, err)
	assertEqual(t, failure.MayHaveApplied, true)
	assertEqual(t, failure.Code == codes.DeadlineExceeded || failure.Code == codes.Unavailable, true)
	// With another node, every call succeeds.
	client := server.ClientWith(cable.Config{Endpoints: []string{silent.Endpoint(), server.Endpoint()}})
	for i := range 5 {
		put(t, client, article(fmt.Sprintf("a%d", i), "Headline"))
	}
}

func TestACallSurvivesARestart(t *testing.T) {
	server := cabletest.Start(t)
	client := server.Client()
	for i := range 3 {
		put(t, client, article("storm", fmt.Sprintf("Storm %d", i)))
		server.Kill()
		server.Restart()
	}
}

func TestATokenIsRotatedWithoutARestart(t *testing.T) {
	server := cabletest.Start(t)
	first := server.Run("token", "new", "desk", "--role", "publisher", "--data", "store")
	server.Stop()
	server.Restart() // With credentials, callers need one.
	file := filepath.Join(server.Dir, "token")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first + "\n")
	client := server.ClientWith(cable.Config{Token: cable.TokenFile(file)})
	put(t, client, article("storm", "Storm"))
	ctx := testContext(t)
	feed := follow(t, client.Feed(ctx, &cablev1.WatchRequest{}, cable.FeedOptions{}))
	feed.until("checkpoint")
	second := server.Run("token", "new", "desk2", "--role", "publisher", "--data", "store")
	server.Run("token", "revoke", "desk", "--data", "store")
	write(second + "\n")
	// Once the old token is refused, the file is read again within the same call.
	for i := 0; ; i++ {
		_, err := server.ClientWith(cable.Config{Token: cable.StaticToken(first)}).GetStatus(ctx, &cablev1.GetStatusRequest{})
		if err != nil {
			failure := asError(t, err)
			assertEqual(t, failure.Reason, cablev1.ErrorReason_ERROR_REASON_UNAUTHENTICATED)
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	put(t, client, article("flood", "Flood"))
	feed.until("changes flood")
	var calls int
	source := func(context.Context) (string, error) {
		calls++
		return []string{first, second}[min(calls-1, 1)], nil
	}
	put(t, server.ClientWith(cable.Config{Token: source}), article("calm", "Calm"))
	feed.until("changes calm")
	assertEqual(t, calls, 2)
	failing := server.ClientWith(cable.Config{Token: cable.TokenFile(file + ".none")})
	_, err := failing.GetStatus(ctx, &cablev1.GetStatusRequest{})
	assertEqual(t, errors.Is(err, os.ErrNotExist), true)
}

func TestInvalidSettingsAreRefused(t *testing.T) {
	invalid := []string{
		"127.0.0.1:7190", "ftp://a", "http://a/b", "http://", "http://me@a", "http://a b", "http://a:", "http://a:/", "http://a:0", "http://a:65536",
	}
	for _, endpoint := range invalid {
		_, err := cable.New(cable.Config{Endpoints: []string{endpoint}})
		assertEqual(t, asError(t, err).Code, codes.InvalidArgument)
	}
	token := cable.StaticToken("canary")
	for _, endpoint := range []string{"http://10.0.0.7:7190", "http://cable.internal", "http://[2001:db8::1]"} {
		_, err := cable.New(cable.Config{Endpoints: []string{endpoint}, Token: token})
		assertEqual(t, asError(t, err).Code, codes.InvalidArgument)
		client, err := cable.New(cable.Config{Endpoints: []string{endpoint}, Token: token, AllowPlaintextToken: true})
		if err != nil {
			t.Fatal(err)
		}
		client.Close()
	}
	for _, endpoint := range []string{"http://127.0.0.1:1", "http://[::1]:1", "http://localhost", "https://cable.internal"} {
		if _, err := cable.New(cable.Config{Endpoints: []string{endpoint}, Token: token}); err != nil {
			t.Fatal(err)
		}
	}
	client, err := cable.New(cable.Config{Token: cable.StaticToken("can ary")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.GetStatus(testContext(t), &cablev1.GetStatusRequest{})
	assertEqual(t, asError(t, err).Message, "cannot get a token: not 1 to 4096 visible ASCII characters")
}

// unusedAddress returns an address at which nothing listens.
func unusedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
