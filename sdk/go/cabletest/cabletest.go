// Package cabletest starts the program cable for tests, on a free port, with an empty store in a temporary directory.
//
// The program is the one that the environment variable CABLE_PROGRAM names, else cable in PATH. If there is none, the
// test is skipped; in CI, where the variable CI is set, it fails.
package cabletest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	cable "cable.example/go"
)

const (
	startTimeout = time.Minute
	stopTimeout  = 10 * time.Second
)

// Server is a running server. It ends with the test.
type Server struct {
	// Dir is the directory of the test: the store is in `store` below it, the settings in `cable.toml`.
	Dir string

	t       testing.TB
	program string
	address string
	process *exec.Cmd
	ended   chan struct{}
}

// Program returns the path of the program, or skips the test.
func Program(t testing.TB) string {
	t.Helper()
	name := os.Getenv("CABLE_PROGRAM")
	if name == "" {
		name = "cable"
	}
	program, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") != "" {
		t.Fatalf("no server to test with: %v; set CABLE_PROGRAM to the program cable", err)
	} else if err != nil {
		t.Skipf("no server to test with: %v; set CABLE_PROGRAM to the program cable", err)
	}
	program, err = filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// Start starts a server and waits until it serves. Settings are lines of cable.toml.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := &Server{Dir: t.TempDir(), t: t, program: Program(t), address: "127.0.0.1:0"}
	text := strings.Join(settings, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(s.Dir, "cable.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	s.Restart()
	return s
}

// Endpoint returns the endpoint, such as `http://127.0.0.1:40123`. It survives restarts.
func (s *Server) Endpoint() string { return "http://" + s.address }

// Client returns a client of the server, which closes with the test.
func (s *Server) Client() *cable.Client {
	s.t.Helper()
	return s.ClientWith(cable.Config{})
}

// ClientWith returns a client with these settings. Without endpoints, it is one of the server.
func (s *Server) ClientWith(config cable.Config) *cable.Client {
	s.t.Helper()
	if len(config.Endpoints) == 0 {
		config.Endpoints = []string{s.Endpoint()}
	}
	client, err := cable.New(config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { client.Close() })
	return client
}

// Run runs a command of the program in the directory of the server, and returns its standard output.
func (s *Server) Run(arguments ...string) string {
	s.t.Helper()
	command := exec.Command(s.program, arguments...)
	command.Dir, command.Env = s.Dir, environment()
	output, err := command.Output()
	if err != nil {
		s.t.Fatalf("cable %s: %v\n%s", strings.Join(arguments, " "), err, err.(*exec.ExitError).Stderr)
	}
	return strings.TrimSpace(string(output))
}

// Restart starts the server again, at the same address.
func (s *Server) Restart() {
	s.t.Helper()
	command := exec.Command(s.program, "serve", "--listen", s.address, "--ops-listen", "off", "--data", "store", "--config", "cable.toml")
	command.Dir = s.Dir
	command.Env = append(environment(), "CABLE__LOG__LEVEL=info", "CABLE__LOG__FORMAT=json")
	log, err := command.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		s.t.Fatalf("cannot start %s: %v", s.program, err)
	}
	serving, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		var last []string
		served := false
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var event struct{ Message, Address string }
			if json.Unmarshal(lines.Bytes(), &event) == nil && event.Message == "serving" {
				serving <- event.Address
				served = true
			}
			last = append(last[max(0, len(last)-20):], lines.Text())
		}
		_ = command.Wait()
		if !served {
			s.t.Logf("the log of the server:\n%s", strings.Join(last, "\n"))
			serving <- ""
		}
	}()
	s.process, s.ended = command, ended
	select {
	case address := <-serving:
		if address == "" {
			s.t.Fatal("the server ended before it served")
		}
		s.address = address
	case <-time.After(startTimeout):
		s.Kill()
		s.t.Fatalf("the server did not serve within %v", startTimeout)
	}
}

// Signal sends a signal, such as SIGSTOP or SIGCONT, to the server.
//
// On Linux, SIGSTOP has taken effect when Signal returns: on a busy machine, a process that is to stop can still serve.
func (s *Server) Signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
	for signal == syscall.SIGSTOP {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
		if err != nil || strings.Contains(string(state), ") T ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Kill ends the server by SIGKILL, as a crash would, and waits for its end.
func (s *Server) Kill() {
	_ = s.process.Process.Kill()
	<-s.ended
}

// Stop ends the server by SIGTERM and, after 10 s, by SIGKILL.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(syscall.SIGTERM)
	_ = s.process.Process.Signal(syscall.SIGCONT)
	select {
	case <-s.ended:
	case <-time.After(stopTimeout):
		s.Kill()
	}
}

// environment returns the environment without the settings of other servers.
func environment() []string {
	var own []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "CABLE_") {
			own = append(own, variable)
		}
	}
	return own
}
