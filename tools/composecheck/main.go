// Command composecheck checks files of Docker Compose without Docker: against the
// schema, with the variables' defaults put in, once for each profile and once for
// all of them; and that the files on this machine which they mount, build from or
// read are there.
//
//	composecheck docker-compose.yml [more.yml…]
//
// Several files are one project, as with docker compose -f … -f ….
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: composecheck docker-compose.yml [more.yml…]")
		os.Exit(2)
	}
	if err := check(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "composecheck: %v\n", err)
		os.Exit(1)
	}
}

// check checks the project with no profile, with each one, and with all.
func check(ctx context.Context, files []string) error {
	for _, file := range files {
		if err := defaulted(file); err != nil {
			return err
		}
	}
	all, err := load(ctx, files, "*")
	if err != nil {
		return err
	}
	profiles := []string{"", "*"}
	for _, service := range all.AllServices() {
		profiles = append(profiles, service.Profiles...)
	}
	slices.Sort(profiles)
	for _, profile := range slices.Compact(profiles) {
		project, err := load(ctx, files, profile)
		if err == nil {
			err = sound(project)
		}
		if err != nil {
			return fmt.Errorf("profile %q: %w", profile, err)
		}
		fmt.Printf("%s, profile %q: %s\n", strings.Join(files, " "), profile, strings.Join(project.ServiceNames(), " "))
	}
	return nil
}

// plain is a variable without a default, for which Compose puts in nothing.
var plain = regexp.MustCompile(`[^$](\$\{?[A-Za-z_]\w*\}?)([^\w:]|$)`)

// defaulted checks that every variable in a file has a default.
func defaulted(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if found := plain.FindSubmatch(text); found != nil {
		return fmt.Errorf("%s: %s has no default; write ${NAME:-…}", file, found[1])
	}
	return nil
}

// load reads the files as Compose does, with an environment that has nothing in it.
func load(ctx context.Context, files []string, profile string) (*types.Project, error) {
	options := []cli.ProjectOptionsFn{cli.WithWorkingDirectory(filepath.Dir(files[0])), cli.WithResolvedPaths(true)}
	if profile != "" {
		options = append(options, cli.WithProfiles([]string{profile}))
	}
	o, err := cli.NewProjectOptions(files, options...)
	if err != nil {
		return nil, err
	}
	return o.LoadProject(ctx)
}

// sound finds what the schema allows and would not work, or should not be.
func sound(p *types.Project) error {
	var wrong []error
	for name, s := range p.Services {
		mistake := func(format string, args ...any) {
			wrong = append(wrong, fmt.Errorf("service %s: "+format, append([]any{name}, args...)...))
		}
		if s.Build == nil && (!strings.Contains(s.Image, ":") || strings.HasSuffix(s.Image, ":latest")) {
			mistake("image %s is of no version", s.Image)
		}
		if s.Build != nil {
			if err := there(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
				mistake("build: %w", err)
			}
		}
		for _, port := range s.Ports {
			if ip := net.ParseIP(port.HostIP); ip == nil || !ip.IsLoopback() {
				mistake("port %s is published on %q and not on the loopback address", port.Published, port.HostIP)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if err := there(v.Source); err != nil {
				mistake("mounts %w", err)
			}
		}
		for variable, value := range s.Environment {
			if value == nil || *value == "" {
				mistake("variable %s has no value", variable)
			}
		}
	}
	return errors.Join(append(wrong, ports(p))...)
}

// ports checks that no two services publish the same port.
func ports(p *types.Project) error {
	var wrong []error
	taken := make(map[string]string)
	for name, s := range p.Services {
		for _, port := range s.Ports {
			if other, ok := taken[port.Published]; ok {
				wrong = append(wrong, fmt.Errorf("services %s and %s: both publish port %s", other, name, port.Published))
			}
			taken[port.Published] = name
		}
	}
	return errors.Join(wrong...)
}

func there(path string) error {
	_, err := os.Stat(path)
	return err
}
