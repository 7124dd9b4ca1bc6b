from magpie_local import Magpie

client = Magpie(api_key="your_api_key_here")

# Create a temporary job
job = client.jobs.create(
    name="temp-calculation",
    script="echo 'Quick calculation'",
    vcpus=1,
    memory_mb=512
)

# Wait for completion
job = client.jobs.run_and_wait(
    name="temp-calculation",
    script="echo 'Quick calculation'",
    vcpus=1,
    memory_mb=512
)

# Get logs before deletion
logs = client.jobs.get_logs(job.id)
print(f"Final output: {logs}")

# Delete the job
result = client.jobs.delete(job.id)
print(f"Job deleted: {result}")

# Attempting to get the job now will raise an error
try:
    client.jobs.get(job.id)
except Exception as e:
    print(f"Error: {e}")  # Job not found
