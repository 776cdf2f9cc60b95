package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/stockledger/stockledger/internal/fault"
)

// verdicts are a CSV file with the verdict on each row. nil is nowhere.
type verdicts struct {
	file *os.File
	csv  *csv.Writer
}

var reportColumns = []string{"row", "line", "verdict", "code", "message", "position", "command_id"}

var reportFile = ownFile{"import report", "--report", regexp.MustCompile("^" + strings.Join(reportColumns, ",") + "\n$")}

func openReport(path string) (*verdicts, error) {
	if path == "" {
		return nil, nil
	}
	if err := reportFile.mayReplace(path); err != nil {
		return nil, err
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("import report: %w", err)
	}
	r := &verdicts{file, csv.NewWriter(file)}
	return r, r.csv.Write(reportColumns)
}

func (r *verdicts) add(key string, j *job) error {
	if r == nil {
		return nil
	}
	code, message, position := "", "", ""
	if j.refusal != nil {
		code, message = codeOf(j.refusal), j.refusal.Error()
	}
	if j.position > 0 {
		position = strconv.FormatUint(j.position, 10)
	}
	return r.csv.Write([]string{strconv.Itoa(j.number), strconv.Itoa(j.at), j.verdict, code, message, position, key})
}

func (r *verdicts) close() error {
	if r == nil {
		return nil
	}
	r.csv.Flush()
	if err := errors.Join(r.csv.Error(), r.file.Close()); err != nil {
		return fmt.Errorf("import report: %w", err)
	}
	return nil
}

// codeOf is the code of a refusal. What is wrong with a row before it is a command
// has none of the ledger's.
func codeOf(err error) string {
	if refusal, ok := errors.AsType[*fault.Error](err); ok {
		return refusal.Code
	}
	return "malformed"
}
