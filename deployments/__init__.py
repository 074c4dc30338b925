"""What a deployment needs beyond prefect.yaml: roles and tables, work pools, the local stack."""
