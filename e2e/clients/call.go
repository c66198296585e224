// Makes one call with AWS's SDK for Go: call OPERATION INPUT, the input as JSON. Prints the answer, or what the SDK makes
// of an error. Endpoint, region and credentials come from the environment, as for anybody's program.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ec2instanceconnect"
	"github.com/aws/smithy-go"
	smithymiddleware "github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

type failure struct {
	Class           string `json:"class"`
	Code            string `json:"code"`
	Message         string `json:"message"`
	Status          int    `json:"status"`
	HeaderRequestID string `json:"headerRequestId"`
}

func main() {
	credentials := func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{
			AccessKeyID:     os.Getenv("AWS_ACCESS_KEY_ID"),
			SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		}, nil
	}
	client := ec2instanceconnect.New(ec2instanceconnect.Options{
		Region:           os.Getenv("AWS_REGION"),
		Credentials:      aws.CredentialsProviderFunc(credentials),
		EndpointResolver: ec2instanceconnect.EndpointResolverFromURL(os.Getenv("AWS_ENDPOINT_URL")),
		Retryer:          aws.NopRetryer{},
	})
	body, metadata, err := call(client, os.Args[1], []byte(os.Args[2]))
	if err != nil {
		print(map[string]any{"error": describe(err)})
		return
	}
	id, _ := middleware.GetRequestIDMetadata(metadata)
	print(map[string]any{"body": body, "headerRequestId": id})
}

func call(client *ec2instanceconnect.Client, operation string, input []byte) (map[string]any, smithymiddleware.Metadata, error) {
	var nothing smithymiddleware.Metadata
	switch operation {
	case "SendSSHPublicKey":
		var in ec2instanceconnect.SendSSHPublicKeyInput
		if err := json.Unmarshal(input, &in); err != nil {
			return nil, nothing, err
		}
		out, err := client.SendSSHPublicKey(context.Background(), &in)
		if err != nil {
			return nil, nothing, err
		}
		return map[string]any{"RequestId": out.RequestId, "Success": out.Success}, out.ResultMetadata, nil
	case "SendSerialConsoleSSHPublicKey":
		var in ec2instanceconnect.SendSerialConsoleSSHPublicKeyInput
		if err := json.Unmarshal(input, &in); err != nil {
			return nil, nothing, err
		}
		out, err := client.SendSerialConsoleSSHPublicKey(context.Background(), &in)
		if err != nil {
			return nil, nothing, err
		}
		return map[string]any{"RequestId": out.RequestId, "Success": out.Success}, out.ResultMetadata, nil
	}
	return nil, nothing, fmt.Errorf("no such operation: %s", operation)
}

func describe(err error) failure {
	var described failure
	var api smithy.APIError
	if errors.As(err, &api) {
		described.Class = fmt.Sprintf("%T", api)
		described.Code, described.Message = api.ErrorCode(), api.ErrorMessage()
	} else {
		described.Class, described.Message = fmt.Sprintf("%T", err), err.Error()
	}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		described.Status = response.HTTPStatusCode()
	}
	var withID interface{ ServiceRequestID() string }
	if errors.As(err, &withID) {
		described.HeaderRequestID = withID.ServiceRequestID()
	}
	return described
}

func print(value any) {
	if err := json.NewEncoder(os.Stdout).Encode(value); err != nil {
		panic(err)
	}
}
