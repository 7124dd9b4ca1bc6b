from magpie_local import Magpie

client = Magpie(api_key="your_api_key_here")

# Get job details
job = client.jobs.get("job_abc123xyz")

print(f"Job Name: {job.name}")
print(f"Status: {job.status}")
print(f"vCPUs: {job.vcpus}")
print(f"Memory: {job.memory_mb} MB")
print(f"Created: {job.created_at}")
print(f"Stateful: {job.stateful}")
print(f"Persistent: {job.persistent}")
