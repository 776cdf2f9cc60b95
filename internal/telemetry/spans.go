package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Spans exports spans. What cannot be exported is dropped; nothing waits for it.
type Spans struct{ provider *sdktrace.TracerProvider }

// Wanted reports whether the environment wants spans, by OpenTelemetry's own
// variables, and what is wrong with those. Spans go to an endpoint over HTTP.
func Wanted(getenv func(string) string) (bool, error) {
	if off, _ := strconv.ParseBool(getenv("OTEL_SDK_DISABLED")); off {
		return false, nil
	}
	endpoint := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") + getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	switch exporter := getenv("OTEL_TRACES_EXPORTER"); {
	case exporter == "none" || exporter == "" && endpoint == "":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER is %q; there are otlp and none", exporter)
	}
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if protocol := getenv(variable); !slices.Contains([]string{"", "http/protobuf"}, protocol) {
			return false, fmt.Errorf("%s is %q; there is http/protobuf, which collectors take on port 4318", variable, protocol)
		}
	}
	return true, nil
}

// Export starts exporting spans to where OpenTelemetry's variables say.
func Export(ctx context.Context, version string) (*Spans, error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("export spans: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "stockledger"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv()) // OTEL_SERVICE_NAME says better
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("export spans: %w", err)
	}
	return &Spans{sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))}, nil
}

// Tracer makes spans; nil if s is nil.
func (s *Spans) Tracer() trace.Tracer {
	if s == nil {
		return nil
	}
	return s.provider.Tracer("github.com/stockledger/stockledger")
}

// Close exports what is left.
func (s *Spans) Close(ctx context.Context) error { return s.provider.Shutdown(ctx) }
