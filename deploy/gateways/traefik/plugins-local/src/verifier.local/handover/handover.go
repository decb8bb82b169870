// Package handover does what Traefik's forwardAuth cannot. After it: hands headers that forwardAuth copied to the
// request over to the caller's response, which caches must not share then, and takes the key off the query. Before it: takes off all headers that begin
// like the verifier's, also those that differ in underscores.
package handover

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// Config names the headers to hand over, the query parameter to remove, and how headers to remove begin, in lower case;
// empty for none.
type Config struct {
	Forget    string   `json:"forget,omitempty"`
	Headers   []string `json:"headers,omitempty"`
	Parameter string   `json:"parameter,omitempty"`
}

// CreateConfig returns what holds without any configuration.
func CreateConfig() *Config { return &Config{} }

type handover struct {
	next   http.Handler
	config *Config
}

// New makes the middleware.
func New(_ context.Context, next http.Handler, config *Config, _ string) (http.Handler, error) {
	return &handover{next: next, config: config}, nil
}

func (h *handover) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	if h.config.Forget != "" {
		for name := range request.Header {
			if strings.HasPrefix(strings.ReplaceAll(strings.ToLower(name), "_", "-"), h.config.Forget) {
				delete(request.Header, name)
			}
		}
	}
	for _, name := range h.config.Headers {
		if value := request.Header.Get(name); value != "" {
			response.Header().Set(name, value)
			response.Header().Set("Cache-Control", "private")
		}
		request.Header.Del(name)
	}
	if h.config.Parameter != "" && request.URL.RawQuery != "" {
		request.URL.RawQuery = without(request.URL.RawQuery, h.config.Parameter)
		request.RequestURI = request.URL.RequestURI()
	}
	h.next.ServeHTTP(response, request)
}

// without removes a parameter and leaves the others as the caller wrote them.
func without(query, parameter string) string {
	var kept []string
	for _, part := range strings.Split(query, "&") {
		name, err := url.QueryUnescape(strings.SplitN(part, "=", 2)[0])
		if err != nil || name != parameter {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}
