from magpie_local import Magpie

client = Magpie(api_key="your_api_key_here")

# Get all logs
logs = client.jobs.get_logs("job_abc123xyz")
print("Complete logs:")
print(logs)

# Get only the last 50 lines
recent_logs = client.jobs.get_logs("job_abc123xyz", tail=50)
print("\nLast 50 lines:")
print(recent_logs)
