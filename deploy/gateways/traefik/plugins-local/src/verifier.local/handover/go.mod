module verifier.local/handover

go 1.21
