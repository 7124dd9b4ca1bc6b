from magpie_local import Magpie
import time

client = Magpie(api_key="your_api_key_here")

# Create a job
job = client.jobs.create(
    name="long-task",
    script="sleep 60 && echo 'Done!'",
    vcpus=1,
    memory_mb=512
)

# Poll for status
while True:
    status = client.jobs.get_status(job.id)
    print(f"Current status: {status}")

    if status in ["completed", "failed", "stopped"]:
        break

    time.sleep(5)
