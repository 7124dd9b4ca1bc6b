from magpie_local import Magpie

client = Magpie(api_key="your_api_key_here")

# Create an ephemeral job
job = client.jobs.create(
    name="data-processor",
    script="python process_data.py",
    vcpus=4,
    memory_mb=2048
)

print(f"Job ID: {job.id}")
print(f"Status: {job.status}")
