// Command client makes the calls of tests/outside/languages.py by grpc-go: `client calls`, `cancel` or `drain SECONDS`.
//
// The node, the CA, the client certificate and the token come from the environment. Results are lines of JSON; codes
// are the numbers of gRPC.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"cable/outside/client/cable/v1"
)

const (
	deadline  = 200 * time.Millisecond
	deadlines = 10
	workers   = 10
)

var (
	get = &cablev1.GetArticleRequest{Name: "articles/tides"}
	put = &cablev1.PutArticleRequest{Article: &cablev1.Article{Name: "articles/by-go", Headline: "By Go"}}
	// A read that waits for a revision that does not come.
	future = &cablev1.Freshness{AtLeastRevision: 1_000_000_000, MaxWait: durationpb.New(10 * time.Second)}
)

func main() {
	scenarios := map[string]func() error{"calls": calls, "cancel": cancel, "drain": drain}
	scenario, ok := scenarios[os.Args[1]]
	if !ok {
		log.Fatalf("unknown scenario %q", os.Args[1])
	}
	if err := scenario(); err != nil {
		log.Fatal(err)
	}
}

// connect returns a channel. Without a CA, the client trusts those of the system only.
func connect(ca, certificate bool) (*grpc.ClientConn, error) {
	config := &tls.Config{}
	if ca {
		pem, err := os.ReadFile(os.Getenv("CABLE_CA"))
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	if certificate {
		pair, err := tls.LoadX509KeyPair(os.Getenv("CABLE_CLIENT_CERT"), os.Getenv("CABLE_CLIENT_KEY"))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	wait := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, MaxDelay: 500 * time.Millisecond}
	return grpc.NewClient(os.Getenv("CABLE_ADDRESS"),
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: wait, MinConnectTimeout: 5 * time.Second}))
}

func withToken(parent context.Context) context.Context {
	return metadata.AppendToOutgoingContext(parent, "authorization", "Bearer "+os.Getenv("CABLE_TOKEN"))
}

type call func(context.Context, *grpc.ClientConn) error

func getArticle(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := cablev1.NewContentServiceClient(conn).GetArticle(ctx, get)
	return err
}

func putArticle(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := cablev1.NewPublishingServiceClient(conn).PutArticle(ctx, put)
	return err
}

// waiting has a unary call, a stream and a feed, none of which ends by itself.
var waiting = map[string]call{
	"unary": func(ctx context.Context, conn *grpc.ClientConn) error {
		request := &cablev1.GetArticleRequest{Name: get.Name, Freshness: future}
		_, err := cablev1.NewContentServiceClient(conn).GetArticle(ctx, request)
		return err
	},
	"stream": func(ctx context.Context, conn *grpc.ClientConn) error {
		request := &cablev1.StreamArticlesRequest{Freshness: future}
		stream, err := cablev1.NewContentServiceClient(conn).StreamArticles(ctx, request)
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	},
	"feed": func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := cablev1.NewFeedServiceClient(conn).Watch(ctx, &cablev1.WatchRequest{})
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	},
}

func code(ctx context.Context, run call, conn *grpc.ClientConn) codes.Code {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return status.Code(run(ctx, conn))
}

func calls() error {
	plain := context.Background()
	connected, err := connect(true, false)
	mutual, errMutual := connect(true, true)
	untrusted, errUntrusted := connect(false, false)
	if err := errors.Join(err, errMutual, errUntrusted); err != nil {
		return err
	}
	found := map[string]codes.Code{
		"get_with_token":       code(withToken(plain), getArticle, connected),
		"put_with_token":       code(withToken(plain), putArticle, connected),
		"get_without_token":    code(plain, getArticle, connected),
		"put_with_certificate": code(plain, putArticle, mutual),
		"get_from_untrusted":   code(withToken(plain), getArticle, untrusted),
	}
	late := map[string][]float64{}
	for name, run := range waiting {
		for range deadlines {
			start := time.Now()
			ctx, cancel := context.WithTimeout(withToken(plain), deadline)
			err := run(ctx, connected)
			cancel()
			if status.Code(err) != codes.DeadlineExceeded {
				return fmt.Errorf("%s: %w", name, err)
			}
			late[name] = append(late[name], float64(time.Since(start)-deadline)/1e6)
		}
	}
	return show(map[string]any{"codes": numbers(found), "late_ms": late})
}

func cancel() error {
	conn, err := connect(true, false)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(withToken(context.Background()))
	defer end()
	ended := make(chan codes.Code, len(waiting))
	for _, run := range waiting {
		go func() { ended <- status.Code(run(ctx, conn)) }()
	}
	input := bufio.NewReader(os.Stdin)
	if err := show(map[string]any{"open": len(waiting)}); err != nil {
		return err
	}
	if _, err := input.ReadString('\n'); err != nil {
		return err
	}
	end()
	var found []int
	for range waiting {
		found = append(found, int(<-ended))
	}
	if err := show(map[string]any{"codes": found}); err != nil {
		return err
	}
	// Stay connected: the end of the connection would end the calls too.
	_, _ = input.ReadString('\n')
	return nil
}

func drain() error {
	seconds, err := strconv.ParseFloat(os.Args[2], 64)
	if err != nil {
		return err
	}
	conn, err := connect(true, false)
	if err != nil {
		return err
	}
	ctx := withToken(context.Background())
	if err := getArticle(ctx, conn); err != nil {
		return err
	}
	if err := show(map[string]any{"ready": true}); err != nil {
		return err
	}
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	found := map[string]int{}
	var lock sync.Mutex
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for time.Now().Before(end) {
				limited, cancel := context.WithTimeout(ctx, 30*time.Second)
				_, err := cablev1.NewContentServiceClient(conn).GetArticle(limited, get, grpc.WaitForReady(true))
				cancel()
				lock.Lock()
				found[strconv.Itoa(int(status.Code(err)))]++
				lock.Unlock()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	all.Wait()
	return show(map[string]any{"codes": found})
}

// numbers returns codes as numbers: their JSON is a name otherwise.
func numbers(found map[string]codes.Code) map[string]uint32 {
	all := map[string]uint32{}
	for name, code := range found {
		all[name] = uint32(code)
	}
	return all
}

func show(result any) error {
	return json.NewEncoder(os.Stdout).Encode(result)
}
