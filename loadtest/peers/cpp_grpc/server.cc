// The C++ gRPC peer: the callback API, a hash map from token to what is known of it, answers of the same fields.
//
// It does less than a verifier: no checksum, no SHA-256, no HMAC, no clock, no address rules. So its figures flatter it.
//
//   server TOKENS IDS      one token a line; one key id a line, in the same order; prints its port

#include <grpcpp/grpcpp.h>

#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <unordered_map>

#include "verifier/v1/verifier.grpc.pb.h"

using verifier::v1::VerifierService;
using verifier::v1::VerifyRequest;
using verifier::v1::VerifyResponse;

namespace {

class Service final : public VerifierService::CallbackService {
 public:
  Service(const char* tokens, const char* ids) {
    std::ifstream token_lines(tokens), id_lines(ids);
    std::string token, id;
    while (std::getline(token_lines, token) && std::getline(id_lines, id)) keys_.emplace(token, id);
  }

  size_t size() const { return keys_.size(); }

  grpc::ServerUnaryReactor* Verify(grpc::CallbackServerContext* context, const VerifyRequest* request,
                                   VerifyResponse* response) override {
    response->set_revision(1);
    auto found = keys_.find(request->key());
    if (found == keys_.end()) {
      response->set_verdict(verifier::v1::VERDICT_UNKNOWN);
    } else {
      response->set_verdict(verifier::v1::VERDICT_VALID);
      response->set_phase(verifier::v1::PHASE_CURRENT);
      response->set_client_id("acme");
      response->set_key_id(found->second);
      response->set_version(1);
      response->add_scopes("read");
      response->add_scopes("trade");
    }
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  std::unordered_map<std::string, std::string> keys_;
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  Service service(arguments[1], arguments[2]);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server || service.size() == 0) return 1;
  std::cout << port << std::endl;
  server->Wait();
}
