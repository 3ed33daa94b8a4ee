package cable_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cable "cable.example/go"
	"cable.example/go/cabletest"
	"cable.example/go/cablev1"
)

// certify writes a certificate for the loopback address and its key to a directory, and returns the CA that signed it.
func certify(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) {
		t.Helper()
		check(os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	node := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	nodeKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	signed, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	check(err)
	certificate, err := x509.CreateCertificate(rand.Reader, node, ca, nodeKey.Public(), caKey)
	check(err)
	key, err := x509.MarshalPKCS8PrivateKey(nodeKey)
	check(err)
	write("node.pem", "CERTIFICATE", certificate)
	write("node.key", "PRIVATE KEY", key)
	root, err := x509.ParseCertificate(signed)
	check(err)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool
}

func TestTLSWithAPrivateCAAndAToken(t *testing.T) {
	dir := t.TempDir()
	roots := certify(t, dir)
	server := cabletest.Start(t, "[tls]", `certificate = "`+filepath.Join(dir, "node.pem")+`"`, `key = "`+filepath.Join(dir, "node.key")+`"`)
	token := strings.Fields(server.Run("token", "new", "desk", "--role", "publisher", "--data", "store"))[0]
	server.Stop()
	server.Restart() // It reads its tokens as it starts.
	endpoints := []string{strings.Replace(server.Endpoint(), "http:", "https:", 1)}
	trusting := &tls.Config{RootCAs: roots}
	request := &cablev1.PutArticleRequest{Article: article("a", "A", "storm")}

	client := server.ClientWith(cable.Config{Endpoints: endpoints, TLS: trusting, Token: cable.StaticToken(token)})
	put(t, client, request.Article)
	feed := follow(t, client.Feed(testContext(t), snapshot(storm()), cable.FeedOptions{}))
	feed.until("snapshot 1", "end 1")

	anonymous := server.ClientWith(cable.Config{Endpoints: endpoints, TLS: trusting})
	_, err := anonymous.PutArticle(testContext(t), request)
	missing := asError(t, err)
	assertEqual(t, missing.Reason, cablev1.ErrorReason_ERROR_REASON_UNAUTHENTICATED)
	if !strings.Contains(missing.Message, "token") {
		t.Fatalf("the error does not name the token: %v", missing)
	}

	untrusting := server.ClientWith(cable.Config{Endpoints: endpoints, Token: cable.StaticToken(token)})
	_, err = untrusting.PutArticle(testContext(t), request)
	untrusted := asError(t, err)
	assertEqual(t, untrusted.MayHaveApplied, false)
	if !strings.Contains(untrusted.Message, "certificate") {
		t.Fatalf("the error does not name the certificate: %v", untrusted)
	}
	for _, secret := range []error{missing, untrusted} {
		assertEqual(t, strings.Contains(secret.Error(), token), false)
	}

	// A feed repeats the attempt, so that a new certificate of the node helps, and reports the cause.
	ctx, cancel := context.WithCancel(testContext(t))
	reported := ""
	options := cable.FeedOptions{OnRetry: func(err error) { reported = err.Error(); cancel() }}
	for range untrusting.Feed(ctx, storm(), options) {
	}
	assertEqual(t, strings.Contains(reported, "certificate"), true)
}
