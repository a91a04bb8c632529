"""Bedrock and SageMaker."""
