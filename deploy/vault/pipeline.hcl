# Policy of the pipeline: it reads the secrets of one environment, and looks after its own token. Nothing else.
#
# ENVIRONMENT stands for the value of WRM_ENV, `secret` for VAULT_MOUNT. `bao` is OpenBao's command; HashiCorp's `vault`
# takes the same arguments. Once, by an administrator, for production:
#
#   bao secrets enable -path=secret -version=2 kv          # unless there is one
#   bao auth enable approle                                # unless it is on
#   sed s/ENVIRONMENT/production/ deploy/vault/pipeline.hcl | bao policy write wrm-pipeline-production -
#   bao write auth/approle/role/wrm-pipeline-production \
#       token_policies=wrm-pipeline-production token_no_default_policy=true \
#       token_ttl=20m token_max_ttl=4h secret_id_ttl=90d secret_id_num_uses=0
#
# Every run is a process that logs in, so the secret id must not be limited in uses (secret_id_num_uses=0). Bind it to
# the machine with secret_id_bound_cidrs and token_bound_cidrs where its address is known.
#
# Handing the secret id over, by an operator (operator.hcl), valid for ten minutes until the pipeline unwraps it:
#
#   bao read -field=role_id auth/approle/role/wrm-pipeline-production/role-id     # VAULT_ROLE_ID, or VAULT_ROLE_ID_FILE
#   bao write -wrap-ttl=10m -f auth/approle/role/wrm-pipeline-production/secret-id
#
# Put `wrapping_token` into the file that VAULT_WRAPPED_SECRET_ID_FILE names, and note `wrapped_accessor`. When the
# pipeline reports a possible interception, destroy that secret id and hand over a new one:
#
#   bao write auth/approle/role/wrm-pipeline-production/secret-id-accessor/destroy secret_id_accessor=…

path "secret/data/bike-data-flow/ENVIRONMENT/storage" {
  capabilities = ["read"]
}

path "secret/data/bike-data-flow/ENVIRONMENT/redis" {
  capabilities = ["read"]
}

path "secret/data/bike-data-flow/ENVIRONMENT/alerts" {
  capabilities = ["read"]
}

path "secret/data/bike-data-flow/ENVIRONMENT/privacy" {
  capabilities = ["read"]
}

# Tells a token that has ended from a policy that does not allow something.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

# At two thirds of its lease.
path "auth/token/renew-self" {
  capabilities = ["update"]
}
