# Policy of a person who keeps the secrets of one environment: `wrm secrets put`, `migrate` and `check`, and handing over
# new secret ids of the pipeline's role. Not: other environments, policies, roles.
#
#   sed s/ENVIRONMENT/production/ deploy/vault/operator.hcl | bao policy write wrm-operator-production -
#
# Use it with a short-lived token of your own login, in your shell only:
#
#   VAULT_ADDR=https://vault.example.org:8200 VAULT_TOKEN=$(bao login -method=oidc -token-only) WRM_ENV=production \
#       wrm secrets put storage s3_secret_access_key

# Writing is read, then write-if-unchanged, so that the other keys of a path stay.
path "secret/data/bike-data-flow/ENVIRONMENT/*" {
  capabilities = ["create", "read", "update"]
}

# Versions: `bao kv metadata get`, and taking back a write or a deletion.
path "secret/metadata/bike-data-flow/ENVIRONMENT/*" {
  capabilities = ["read", "list"]
}

path "secret/undelete/bike-data-flow/ENVIRONMENT/*" {
  capabilities = ["update"]
}

path "auth/approle/role/wrm-pipeline-ENVIRONMENT/role-id" {
  capabilities = ["read"]
}

# Only wrapped, for at most an hour: the operator does not see the secret id.
path "auth/approle/role/wrm-pipeline-ENVIRONMENT/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "1h"
}

path "auth/approle/role/wrm-pipeline-ENVIRONMENT/secret-id-accessor/destroy" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}
