// Loads a compose file as Docker Compose does (its own loader): merges, interpolates, and holds it against the specification
// and the relations between its parts, once with each profile and once with all.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if err := check(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: compose FILE")
	}
	for _, profiles := range [][]string{nil, {"*"}} {
		options, err := cli.NewProjectOptions(args, cli.WithProfiles(profiles), cli.WithConsistency(true))
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		project, err := options.LoadProject(context.Background())
		if err != nil {
			return fmt.Errorf("%s, profiles %v: %w", args[0], profiles, err)
		}
		fmt.Printf("%s, profiles %v: compose reads %d services: %v\n", args[0], profiles, len(project.Services), project.ServiceNames())
	}
	return nil
}
